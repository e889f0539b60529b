from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import IO

import pytest

from atbptt.errors import ConfigError
from atbptt.system.files import StorageError, check_writable, content_digest, replacing, write_atomically, write_text


def test_a_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "log.txt", "Φ = 1\n")
    assert (tmp_path / "log.txt").read_bytes() == b"\xce\xa6 = 1\n"
    assert os.listdir(tmp_path) == ["log.txt"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "status", "a long first text")
    write_text(tmp_path / "status", "short")
    assert (tmp_path / "status").read_text() == "short"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "metrics.parquet"
    write_text(path, "old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise error("no more")

    with pytest.raises(error, match="no more"):
        write_atomically(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.parquet"]


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


def test_bytes_are_on_disk_before_the_name_is_taken_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_what_stood_there_before_can_be_kept(tmp_path: Path) -> None:
    path, previous = tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt"
    for text in (b"one", b"two", b"three"):
        write_atomically(path, lambda file, text=text: file.write(text), previous)  # type: ignore[misc]
    assert (path.read_bytes(), previous.read_bytes()) == (b"three", b"two")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_no_more_is_reported_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "metrics.parquet"
    write_text(path, "old")

    def refuse(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=f"^{path} cannot be written: {os.strerror(number)}; what stood there"):
        write_atomically(path, refuse, tmp_path / "previous")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.parquet"]


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "status", "text")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("folder", [".", "outputs", "outputs/copy/deep"])
def test_checking_a_writable_folder_leaves_nothing(tmp_path: Path, folder: str) -> None:
    check_writable("output_dir", tmp_path / folder)
    assert os.listdir(tmp_path) == []


def test_a_relative_folder_is_checked_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(ConfigError, match=r"^output_dir \(=outputs/copy\) cannot be written: .*outputs is no folder$"):
        check_writable("output_dir", Path("outputs/copy"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(ConfigError, match=r"^output_dir .* cannot be written: Permission denied$"):
        check_writable("output_dir", tmp_path / "outputs")


def test_the_systems_reason_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(ConfigError, match=r"^output_dir \(=.*outputs\) cannot be written: No space left on device$"):
        check_writable("output_dir", tmp_path / "outputs")


def test_a_digest_follows_what_a_file_or_folder_holds_and_not_its_name(tmp_path: Path) -> None:
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


def test_what_the_file_system_refuses_is_reported_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"file/name cannot be written: .*; what stood there before is unchanged"
    with pytest.raises(StorageError, match=message), replacing(tmp_path / "file" / "name"):
        raise AssertionError("not reached")
