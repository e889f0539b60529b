from __future__ import annotations

from pathlib import Path

import pytest

from analysis.errors import AnalysisError
from analysis.files import replacing


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_what_goes_wrong_changes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def half() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_file_system_refuses_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = r"file/name cannot be written: .*; what stood there before is unchanged"
    with pytest.raises(AnalysisError, match=told), replacing(tmp_path / "file" / "name"):
        raise AssertionError("not reached")
