import errno
import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import IO
from unittest.mock import Mock

import pytest

from atbptt.errors import ConfigError
from atbptt.system.files import (
    StorageError,
    check_writable,
    content_digest,
    made_folder,
    replacing,
    write_atomically,
    write_text,
)


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.parquet"
    write_text(path, "old")

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
        (other,) = set(os.listdir(tmp_path)) - {path.name}
        assert other.startswith(".")

    write_atomically(path, write)
    assert path.read_text() == "new"
    write_text(path, "Φ = 1\n")
    write_atomically(path, lambda file: file.write(b"later"), tmp_path / "previous")
    assert (path.read_bytes(), (tmp_path / "previous").read_bytes()) == (b"later", b"\xce\xa6 = 1\n")


def test_folders_that_were_made_go_if_they_stay_empty(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for name, kept in (("before", True), ("before/a/b", False), ("c/d", False)):
        with made_folder(tmp_path / name):
            assert (tmp_path / name).is_dir()
        assert (tmp_path / name).exists() == kept
    assert os.listdir(tmp_path) == ["before"]
    with made_folder(tmp_path / "c" / "d"):
        (tmp_path / "c" / "kept").touch()
    assert os.listdir(tmp_path / "c") == ["kept"]


def test_bytes_are_on_disk_before_the_file_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    fsync, replace = os.fsync, os.replace

    def note(descriptor: int) -> None:
        found = os.fstat(descriptor)
        calls.append("flush the folder" if stat.S_ISDIR(found.st_mode) else f"flush {found.st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    write_text(tmp_path / "status", "text")
    assert calls == ["flush 4 bytes", "replace", "flush the folder"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt("no more"), OSError("no more"), OSError(28, "no more"), OSError(27, "no more")]
)
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    """A refusal of the disk is a StorageError that names the file; other errors stay what they are."""
    path = tmp_path / "metrics.parquet"
    write_text(path, "old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise error

    refused = getattr(error, "errno", None) in (errno.ENOSPC, errno.EFBIG)
    message = f"{path} cannot be written: no more; what stood there before is unchanged" if refused else "no more"
    with pytest.raises(StorageError if refused else type(error), match=f"^{message}$") as caught:
        write_atomically(path, half, tmp_path / "previous")
    assert isinstance(caught.value, StorageError) is refused
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.parquet"]


@pytest.mark.parametrize("process", ["9" * 20, "x", "-", str(os.getppid())])
def test_a_file_like_what_a_killed_process_leaves_stays_if_no_such_process_has_ended(
    process: str, tmp_path: Path
) -> None:
    left = tmp_path / f".file.{socket.gethostname()}.{process}.tmp"
    left.touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("one")
    assert {*tmp_path.iterdir()} == {left, tmp_path / "file"}


def test_replacing_makes_folders_and_puts_the_file_in_place_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with pytest.raises(StorageError, match="has been deleted or moved"):
        write_text(path, "text")  # which makes none
    with replacing(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(StorageError, match=r"file/name cannot be written: .*; what stood there before is unchanged"):
        replacing(path / "name").__enter__()
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "outputs", "outputs/copy/deep"):
        check_writable("output_dir", tmp_path / folder)
    assert os.listdir(tmp_path) == []
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(ConfigError, match=r"^output_dir \(=outputs/copy\) cannot be written: .*outputs is no folder$"):
        check_writable("output_dir", Path("outputs/copy"))

    refuse = Mock(side_effect=OSError(28, "No space left on device"))
    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(ConfigError, match=r"^output_dir \(=.*more\) cannot be written: No space left on device$"):
        check_writable("output_dir", tmp_path / "more")


def test_a_digest_is_of_the_content_of_a_file_or_folder_and_not_its_name(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_text(text)
    a, b, c = (content_digest(tmp_path / name) for name in "abc")
    assert a == b != c
    assert content_digest(tmp_path / "a" / "data.txt") == content_digest(tmp_path / "b" / "data.txt")
    (tmp_path / "a" / "data.txt").write_text("two")
    os.utime(tmp_path / "a" / "data.txt", ns=(1, 1))
    assert content_digest(tmp_path / "a") == c
    assert content_digest(tmp_path / "none") == str(tmp_path / "none")


def test_a_digest_of_a_list_is_of_all_its_files_in_their_order(tmp_path: Path) -> None:
    one, two, same = (tmp_path / name for name in ("one", "two", "same"))
    for file, text in ((one, "1"), (two, "2"), (same, "1")):
        file.write_text(text)
    lists = [[], [one], [one, two], [two, one], [one, one, two]]
    assert len({*map(content_digest, lists), content_digest(one)}) == 1 + len(lists)
    assert content_digest([same, two]) == content_digest([one, two])
    with pytest.raises(FileNotFoundError):
        content_digest([one, tmp_path / "none"])
