"""Files of data that are none, or odd, are refused in a line and not waited for."""

import functools
import io
import math
import os
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from atbptt.config import validated
from atbptt.datasets import SPLITS, reading
from atbptt.errors import ConfigError
from atbptt.training.experiment import build
from tests.helpers.refusing import HUGE, PIPE, bases, check_refused, defaults
from tests.helpers.spoiling import device, folder, loop, pipe, sparse

pytestmark = pytest.mark.usefixtures("little_memory")


def saved(**changes: Any) -> bytes:
    """An .npz file of three splits, some of whose arrays are others."""
    array = np.arange(60).reshape(30, 2) % 4
    stream = io.BytesIO()
    np.savez(stream, **{name: changes.get(name, array) for split in SPLITS for name in names_of(split)})
    return stream.getvalue()


def names_of(split: str) -> tuple[str, str]:
    return f"{split}_inputs", f"{split}_targets"


def header(shape: tuple[int, ...], descr: str = "<i8") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(content: bytes, method: int = zipfile.ZIP_STORED, declared: int | None = None) -> bytes:
    """The arrays of `saved` with other bytes for train_inputs, of which the directory may declare another size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as whole, zipfile.ZipFile(stream, "w", method) as made:
        for name in whole.namelist():
            made.writestr(name, content if name == "train_inputs.npy" else whole.read(name))
        if declared is not None:
            made.getinfo("train_inputs.npy").file_size = declared
    return stream.getvalue()


def marked(offset_there: int, offset_listed: int, value: bytes) -> bytes:
    """The archive with other bytes in the two headers of its first member, train_inputs."""
    content = bytearray(saved())
    for start, offset in ((content.index(b"PK\3\4"), offset_there), (content.index(b"PK\1\2"), offset_listed)):
        content[start + offset : start + offset + 2] = value
    return bytes(content)


MEMBER = "its member train_inputs.npy"
BIG = 10**11
ARCHIVES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no header": (archive(b"1 2 3 4"), (MEMBER, "ValueError")),
    "nothing": (archive(b""), (MEMBER,)),
    "half a header": (archive(header((30, 2))[:20]), (MEMBER,)),
    "half of the numbers": (archive(header((30, 2)) + bytes(200)), ("train_inputs (=(30, 2))", "has 200 bytes")),
    "huge shape": (archive(header((BIG, BIG))), (f"train_inputs (=({BIG}, {BIG}))", "has 0 bytes")),
    "negative shape": (archive(header((-3, -2))), ("train_inputs (=(-3, -2))", "at least 2 steps")),
    "bomb": (
        archive(header((BIG, 2)), declared=len(header((BIG, 2))) + 16 * BIG),
        ("mine.npz", "needs about 3.2 TB of memory, and 8.0 GB are free"),
    ),
    "objects": (saved(train_inputs=np.array([[1], [None]])), ("train_inputs (=object)", "must hold integers")),
    "times": (saved(train_inputs=np.zeros((30, 2), "m8[s]")), ("train_inputs (=timedelta64[s])", "must hold integers")),
    "code": (archive(header((30, 2)).replace(b"False", b"(1)()")), (MEMBER,)),
    "encrypted": (marked(6, 8, b"\1\0"), (MEMBER, "encrypted")),
    "unknown compression": (marked(8, 10, b"\x63\0"), (MEMBER, "compression")),
    "damaged compression": (marked(8, 10, b"\x08\0"), (MEMBER,)),
    "half": (saved()[:700], ("mine.npz) cannot be read as an .npz file",)),
    "text": (b"1 2 3\n" * 99, ("mine.npz) cannot be read as an .npz file",)),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_odd_npz_file_is_refused_with_its_member(tmp_path: Path, kind: str) -> None:
    content, words = ARCHIVES[kind]
    (tmp_path / "mine.npz").write_bytes(content)
    check_refused("dataset", {"path": str(tmp_path / "mine.npz")}, words, "arrays")


def listening(path: Path) -> None:
    """A socket's file; its name must be short."""
    here = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (pipe, PIPE),
    "device": (device, PIPE),
    "socket": (listening, "cannot be read: "),
    "loop": (loop, "symbolic links"),
    "folder": (folder, "is a folder, not a file"),
    "folder of all": (lambda path: path.symlink_to("/"), "is a folder, not a file"),
    "terabyte": (functools.partial(sparse, size=10**12), "needs about 1.0 TB of memory, and 8.0 GB are free"),
}
FILES = {"arrays": "mine.npz", "text": "train.txt", "events": "time-train.txt"}


def filled(folder: Path, name: str) -> dict[str, Any]:
    """Good files of a data set, and the options that read them."""
    if name == "arrays":
        (folder / "mine.npz").write_bytes(saved())
        return {"path": str(folder / "mine.npz")}
    for split in SPLITS:
        (folder / f"{split}.txt").write_text("a b c d\n" * 9)
        (folder / f"event-{split}.txt").write_text("1 2 3 1\n" * 9)
        (folder / f"time-{split}.txt").write_text("1 2 4 5\n" * 9)
    return {"path": str(folder)}


# A folder in the place of a text holds its documents.
OF_TEXTS = {"folder": "must hold documents, and there is no file", "folder of all": "must hold at most 1,000 files"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_DOCUMENTS", 1000)
    given, file = filled(tmp_path, name), tmp_path / FILES[name]
    make, rule = KINDS[kind]
    rule = OF_TEXTS.get(kind, rule) if name == "text" else rule
    file.unlink()
    make(file)
    check_refused("dataset", given, (file.name, rule), name)


@pytest.mark.parametrize("kind", ["missing", "dangling"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str, kind: str) -> None:
    given, file = filled(tmp_path, name), tmp_path / FILES[name]
    file.unlink()
    if kind == "dangling":
        file.symlink_to("nowhere")
    check_refused("dataset", given, (file.name,), name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\0b", ("path", "null")),
        ("x" * 5000, ("File name too long", "5,0")),
        (HUGE, ("File name too long", "characters")),
        ("a\x1b[31mb", ("\\x1b",)),
        ("/dev/null", ("path (=/dev/null",)),
        ("", ("path",)),
    ],
    ids=["null", "long", "huge", "escape", "device", "empty"],
)
@pytest.mark.parametrize("name", FILES)
def test_a_path_that_none_can_have_is_refused(name: str, path: str, words: tuple[str, ...]) -> None:
    check_refused("dataset", {"path": path}, words, name)


SHARES, WHOLE = [0.8, 0.1, 0.1], {"path": "HERE/train.txt"}
TEXTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"unit": "charakter"}, ("unit (=charakter) must be one of word, character, byte; did you mean character?",)),
    ({"unit": None}, ("unit (=null) must be a valid string",)),
    ({"split": "0.8"}, ("split (=0.8) must be a valid list",)),
    ({"split": 0.8}, ("split (=0.8) must be a valid list",)),
    ({"split": [0.8, "x", 0.2]}, ("split (=[0.8, 'x', 0.2]) must be a valid number",)),
    ({"split": [0.8, math.nan, 0.2]}, ("split (=[0.8, nan, 0.2]) must be a finite number",)),
    ({**WHOLE, "split": [1e308, 1e308, 1e308]}, ("split (=[1e+308, 1e+308, 1e+308]) must be three numbers",)),
    ({**WHOLE, "split": [0.0] * 10**5}, ("split (=[0.0, 0.0, ", "must be three numbers greater than 0 with sum 1")),
    ({"resets": "maybe"}, ("resets (=maybe) must be a valid boolean",)),
    ({"resets": True}, ("resets (=true) needs documents",)),
    ({"train_file": "train.txt/deeper"}, ("path (=", "lacks deeper")),
    ({"train_file": "pipes"}, ("pipes/a) cannot be read: is a pipe or a device",)),
    ({"path": "HERE/none", "split": SHARES}, ("none) must be a file, or a folder of documents; there is none",)),
    ({"path": "HERE/pipes/a", "split": SHARES}, ("pipes/a) cannot be read: is a pipe or a device",)),
    ({"path": "HERE/pair", "split": SHARES}, ("pair) must hold a document for each of train, valid, test",)),
    ({**WHOLE, "split": SHARES, "batch_size": 10**9}, ("batch_size (=1000000000) is too large",)),
]


@pytest.mark.parametrize(("changes", "words"), TEXTS, ids=lambda value: str(value)[:50])
def test_options_of_a_text_that_do_not_fit_are_refused(tmp_path: Path, changes: Any, words: tuple[str, ...]) -> None:
    given = filled(tmp_path, "text") | changes
    for name in ("pair/1", "pair/2", "pipes/a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pipe(tmp_path / name) if name == "pipes/a" else (tmp_path / name).write_text("a b c d\n" * 9)
    given["path"] = given["path"].replace("HERE", str(tmp_path))
    check_refused("dataset", given, words, "text")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("unit", ["word", "character"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9 a b\n", ("line 1 of train.txt is not UTF-8: byte 0xe9 at position 4",)),
        (bytes(range(256)) * 9, ("line ", "of train.txt is not UTF-8")),
        (b"a b\rc\n", ("line 1 of train.txt has a carriage return",)),
    ],
    ids=["latin", "binary", "returns"],
)
def test_text_that_is_none_is_refused_and_leaves_no_cache(
    tmp_path: Path, content: bytes, words: Any, unit: str
) -> None:
    given = filled(tmp_path, "text") | {"unit": unit}
    (tmp_path / "train.txt").write_bytes(content)
    check_refused("dataset", given, words, "text")
    assert not (tmp_path / "cache").exists()


def test_a_text_that_is_too_short_leaves_no_cache(tmp_path: Path) -> None:
    given = filled(tmp_path, "text") | {"batch_size": 1000}
    check_refused("dataset", given, ("batch_size (=1000) is too large",), "text")
    assert not (tmp_path / "cache").exists()


def test_events_that_are_too_many_kinds_for_memory_are_refused(tmp_path: Path) -> None:
    """Of an event, each step has as many numbers as there are kinds."""
    given = filled(tmp_path, "events") | {"batch_size": 2}
    (tmp_path / "event-train.txt").write_text("1 2 3 10000000\n" * 9)
    config = {**defaults(), "dataset": bases()["events"] | given, "model": bases()["point_process"]}
    with pytest.raises(
        ConfigError, match=r"^model.hidden \(=128\) with 2.6e\+09 parameters, for 10000000 event types, "
    ):
        build(validated(config))
