import os
from pathlib import Path

import pytest

from atbptt.system import is_file_name, is_utf8, read_file, read_json


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1]}')
    assert read_file(tmp_path / "a.json") == b'{"a": [1]}'
    assert read_json(tmp_path / "a.json") == {"a": [1]}


def test_what_might_never_end_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="is a pipe or a device") as refused:
            read_file(tmp_path / name)
        assert refused.value.filename == str(tmp_path / name)
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 500 + "]" * 500, "9" * 5000, "\udcff", "{"])
def test_bad_json_is_a_value_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ValueError, match=r"\S"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a", "0f1e@copy fixed", "..a", "\u00e9", "a" * 200])
def test_names_of_files(name: str) -> None:
    assert is_file_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\n", "\x1b[2J", "\udcff", "a" * 201, "\u00e9" * 101, None, 3]
)
def test_what_is_no_name_of_a_file(name: object) -> None:
    assert not is_file_name(name)


def test_names_that_are_no_text() -> None:
    assert is_utf8(Path("\u00e9"))
    assert not is_utf8(Path(os.fsdecode(b"\xff")))
