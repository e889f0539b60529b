import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from atbptt.datasets import reading
from atbptt.datasets.reading import documents, text_blocks, text_lines
from atbptt.errors import ConfigError
from tests.helpers.spoiling import device, loop, pipe, sparse

PARTS = st.sampled_from([b"\xef", b"\xbb\xbf", b"\xc3\xa9", b"a", b"\r", b"\n", b"\r\n"])


@given(content=st.lists(PARTS).map(b"".join), block=st.integers(3, 8))
@example(content=b"ab\rc", block=3)
@example(content=b"ab\r\r\nc\r", block=3)
def test_blocks_of_a_text_are_its_lines(content: bytes, block: int) -> None:
    """With a line feed where the file has one, the same errors, and wherever the file is cut."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BLOCK", block)
        file = Path(folder) / "text"
        file.write_bytes(content)
        try:
            lines = list(text_lines(file))
        except ConfigError as error:
            with pytest.raises(ConfigError, match=f"^{re.escape(str(error))}$"):
                list(text_blocks(file))
        else:
            assert "".join(text_blocks(file)) == "\n".join([*lines, *[""][: content.endswith(b"\n")]])


def test_documents_are_the_files_of_a_folder_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("b", "a/z", "a/10", "a/9", "a.txt", "a/b/c", ".hidden", ".git/x", "a/.b/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "linked").symlink_to("b")
    found = [file.relative_to(tmp_path).as_posix() for file in documents(tmp_path)]
    assert found == ["a.txt", "a/10", "a/9", "a/b/c", "a/z", "b", "linked"]


ODD: list[tuple[Callable[[Path], object], str]] = [
    (lambda folder: (folder / ".hidden").touch(), r"folder\) must hold documents, and there is no file in it$"),
    (lambda folder: pipe(folder / "a"), r"folder/a\) cannot be read: is a pipe or a device, not a file$"),
    (lambda folder: device(folder / "a"), r"folder/a\) cannot be read: is a pipe or a device"),
    (lambda folder: (folder / "a").symlink_to("nowhere"), r"folder/a\) cannot be read: No such file or directory$"),
    (lambda folder: loop(folder / "a"), r"folder/a\) cannot be read: Too many levels of symbolic links$"),
    (lambda folder: [(folder / f"{i}").touch() for i in range(4)], r"folder\) must hold at most 3 files: join some"),
    (lambda folder: [sparse(folder / name, 6 * 10**8) for name in "ab"], r"folder\) needs about 1.2 GB of memory"),
]


@pytest.mark.parametrize(("make", "message"), ODD)
def test_a_folder_that_holds_no_documents_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], message: str
) -> None:
    monkeypatch.setattr(reading, "MOST_DOCUMENTS", 3)
    monkeypatch.setattr("atbptt.system.resources.free_memory", lambda: 10**9)
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder")
    with pytest.raises(ConfigError, match=rf"^path \(=.*{message}"):
        documents(tmp_path / "folder")


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of it neither: its documents would be missing."""
    (tmp_path / "open").touch()
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match=r"^path \(=.*closed\) cannot be read: Permission denied$"):
        documents(tmp_path)
