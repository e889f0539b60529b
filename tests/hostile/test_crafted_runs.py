"""Runs that somebody crafted, diagnosed or continued: no code of theirs runs, and nothing of ours is lost."""

import copy
import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml

from atbptt.config import Settings, validated
from atbptt.errors import ConfigError
from atbptt.runs import RunDirectory, read_checkpoint, schema
from atbptt.runs.checkpoints import DIGEST_BYTES, save
from tests.conftest import TINY
from tests.helpers.spoiling import (
    Spoil,
    content,
    copied,
    device,
    entries,
    folder,
    pipe,
    replaced,
    sparse,
    status,
)
from tests.hostile.conftest import Command

UNPACKED = ("checkpoint.pt is no checkpoint of a run: it unpacks to more than it has bytes",)
NETWORK = "atbptt.models.RecurrentNetwork"


class Evil:
    """Unpickled, it would make a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


def evil_checkpoint(run: Path) -> None:
    store(run, {"format": 2, "model": Evil()})


def store(run: Path, state: object) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    changed_checkpoint(lambda _: buffer.getvalue())(run)


def bomb(run: Path) -> None:
    """Twice two times two ... values in the place of a number, which a message would show."""
    doubled: list[Any] = [2]
    for _ in range(60):
        doubled = [doubled, doubled]
    store(run, {"format": doubled})


def changed_checkpoint(change: Callable[[bytes], bytes]) -> Spoil:
    """Another content, with its digest."""

    def spoil(run: Path) -> None:
        content = change((run / schema.CHECKPOINT).read_bytes()[:-DIGEST_BYTES])
        (run / schema.CHECKPOINT).write_bytes(content + hashlib.sha256(content).digest())

    return spoil


def compressed(content: bytes) -> bytes:
    """The same parts in another zip file, deflated."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return packed.getvalue()


def overlapping(content: bytes) -> bytes:
    """Many parts more, which share the bytes of the largest."""
    packed = io.BytesIO(content)
    with zipfile.ZipFile(packed, "a") as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
        for number in range(1 + len(content) // largest.file_size):
            part = copy.copy(largest)
            part.filename = f"{largest.filename}{number}"
            archive.filelist.append(part)
        archive.mkdir("end")  # a change, with which the list of parts is written
    return packed.getvalue()


def restored(*place: Any, value: object) -> Spoil:
    """Another value in the checkpoint."""

    def spoil(run: Path) -> None:
        state = part = read_checkpoint(run / schema.CHECKPOINT)
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        save(run, state)

    return spoil


def evil_without_digest(run: Path) -> None:
    evil_checkpoint(run)
    path = run / schema.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1])
    (run / schema.PREVIOUS_CHECKPOINT).unlink(missing_ok=True)


def evil_config(target: str, **options: Any) -> Spoil:
    """A config whose model is of another class."""

    def spoil(run: Path) -> None:
        path = run / schema.CONFIG
        config = yaml.safe_load(path.read_text())
        config["model"] |= {"_target_": target, **options}
        path.write_text(yaml.safe_dump(config))
        (run.parents[2] / "evil.py").write_text("import os\nos.mkdir('ran')\nclass Model: pass\n")

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (evil_checkpoint, ("holds an object of", "which is not loaded, since that could run code")),
        (evil_without_digest, ("its checkpoints are damaged",)),
        (evil_config("os.mkdir"), ("model._target_ (=os.mkdir) is no class of atbptt", "--trust")),
        (evil_config("atbptt.system.files.os.mkdir"), ("is no class of atbptt",)),
        (evil_config("evil.Model"), ("(=evil.Model) is no class of atbptt", "add --module evil")),
        (
            evil_config(
                NETWORK, cell={"_target_": NETWORK, "input_size": "${oc.create:{_target_: os.mkdir, path: ran}}"}
            ),
            ("model.cell.input_size", "refers to something else"),
        ),
        (evil_config(NETWORK, cell={"_target_": "os.mkdir", "path": "ran"}), ("model.cell._target_ (=os.mkdir)",)),
        (replaced(schema.CHECKPOINT, pipe), ("is a pipe or a device",)),
        (replaced(schema.CHECKPOINT, device), ("is a pipe or a device",)),
        (replaced(schema.CHECKPOINT, folder), ("is a folder, not a file",)),
        (replaced(schema.CHECKPOINT, sparse), ("has 8,000,000,000,000 bytes, needs about 16 TB of memory, and",)),
        (changed_checkpoint(compressed), UNPACKED),
        (changed_checkpoint(overlapping), UNPACKED),
        (bomb, UNPACKED),
        (restored("epochs_done", value=None), ("epochs_done (=null) must be a whole number, at least 0",)),
        (restored("epochs_done", value=10**400), ("epochs_done (=1000", "must fit in 64 bits")),
        (restored("steps_before", value=2**63), ("steps_before (=", "must fit in 64 bits")),
        (restored("policy", "K", value="x"), ("K (=x) must be a whole number, at least 1",)),
        (restored("policy", "K", value=10**400), ("K (=1000", "must fit in 64 bits")),
        (replaced(schema.CONFIG, pipe), ("config.yaml cannot be read", "is a pipe or a device")),
        (replaced(schema.CONFIG, content(b"\xff\xfe")), ("config.yaml cannot be read",)),
        (replaced(schema.CONFIG, content(b"- 1\n")), ("config.yaml cannot be read",)),
        (replaced(schema.CONFIG, content(b"a: " + b"[" * 2000)), ("config.yaml cannot be read",)),
        (status(experiment_id="0123456789ab"), ("not of 0123456789ab",)),
    ],
)
def test_the_diagnosis_of_a_crafted_run_runs_no_code(
    spoil: Spoil, words: tuple[str, ...], made: Path, here: Path, analysed: Command
) -> None:
    run = copied(made, here / "outputs")
    spoil(run)
    before = entries(here)
    analysed("probe", str(run)).check(1, *words)
    assert {*entries(here)} == {*before}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (evil_checkpoint, ("holds an object of", "move its folder away to begin anew")),
        (replaced(schema.CHECKPOINT, pipe), ("is a pipe or a device",)),
        (replaced(schema.CHECKPOINT, folder), ("is a folder, not a file",)),
        (replaced(schema.CHECKPOINT, sparse), ("has 8,000,000,000,000 bytes, needs about",)),
        (replaced(schema.BEST, sparse), ("best.pt", "has 8,000,000,000,000 bytes, needs about")),
        (changed_checkpoint(compressed), (*UNPACKED, "move its folder away to begin anew")),
        *(
            (restored(*place, value=10**400), ("checkpoint.pt does not fit the run", words))
            for *place, words in (
                ("epochs_done", "epochs_done (=1000"),
                ("probe_steps", "probe_steps (=1000"),
                ("updates", "updates (=1000"),
                ("next_evaluation", "next_evaluation (=1000"),
                ("sums", "losses", "sums.losses (=1000"),
                ("best", "epoch", "best.epoch (=1000"),
                ("waited", "waited (=1000"),
                ("schedule", "TypeError"),
                ("costs", "processor_seconds", "OverflowError"),
            )
        ),
        (replaced(schema.LOG, folder), ("log.txt",)),
        (replaced(schema.OUTPUT, folder), ("output.txt",)),
        (replaced(schema.OUTPUT, device), ("output.txt",)),
        (replaced(schema.OUTPUT, pipe), ("output.txt",)),
        (replaced(schema.LOCK, folder), ("lock cannot be locked",)),
        (replaced(schema.METRICS, folder), ("metrics.parquet",)),
        (replaced(schema.TRACEBACK, folder), ("traceback.txt",)),
    ],
)
@pytest.mark.parametrize("launcher", ["joblib", "basic"])
def test_a_crafted_run_that_continues_runs_no_code_and_says_why_it_does_not(
    launcher: str, spoil: Spoil, words: tuple[str, ...], made: Path, here: Path, launched: Command, analysed: Command
) -> None:
    """The reason is that of this try, not that of the one before, which Python began."""
    if launcher == "basic" and words == ("output.txt",):
        pytest.skip("it writes no such file")
    run = copied(made, here / "outputs")
    status(state="interrupted", error="SIGTERM at epoch 0.5", epoch=0.5, sweep=None)(run)
    spoil(run)
    answer = launched(*TINY, f"init={run_init(run)}", "name=demo", "epochs=2", f"hydra/launcher={launcher}")
    answer.check(1, *words)
    assert "SIGTERM" not in answer.err
    assert not (here / "ran").exists()
    assert "1 failed" in answer.out
    told = analysed("failures", str(run)).out
    assert all(word in told for word in words)
    assert "SIGTERM" not in told


def test_a_finished_run_that_cannot_be_extended_stays_as_it_is(
    made: Path, here: Path, launched: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(made, here / "outputs")
    before = (run / schema.STATUS).read_text()
    monkeypatch.setattr("atbptt.sweeps.launching.run", Mock(side_effect=ConfigError("dataset.path", "is other data")))
    answer = launched(*TINY, f"init={run_init(run)}", "name=demo", "epochs=2", "hydra/launcher=basic")
    answer.check(1, "ConfigError: dataset.path is other data")
    assert (run / schema.STATUS).read_text() == before


def test_a_file_that_may_not_be_changed_is_named(made: Path, here: Path, launched: Command) -> None:
    run = copied(made, here / "outputs")
    file = run / schema.STATUS
    fixed = subprocess.run(["chattr", "+i", file], capture_output=True)
    if fixed.returncode:
        pytest.skip("needs the right to fix attributes of files")
    try:
        answer = launched(*TINY, f"init={run_init(run)}", "name=demo", "epochs=2")
    finally:
        subprocess.run(["chattr", "-i", file], check=True)
    answer.check(1, "status.json cannot be written: Operation not permitted; what stood there before is unchanged")


def test_source_that_is_a_link_is_not_emptied(made: Path, here: Path, launched: Command) -> None:
    run = copied(made, here / "outputs")
    (here / "thesis").mkdir()
    (here / "thesis" / "chapter.tex").touch()
    (run / schema.SOURCE).symlink_to(here / "thesis")
    launched(*TINY, f"init={run_init(run)}", "name=demo", "epochs=2").check(0)
    assert (here / "thesis" / "chapter.tex").exists()


def test_a_link_within_source_is_not_written_through(made: Path, here: Path) -> None:
    """As the sources of an attempt are stored."""
    run = copied(made, here / "outputs")
    (here / "thesis").mkdir()
    (here / "thesis" / "models.py").write_text("precious")
    (run / schema.SOURCE).mkdir()
    (run / schema.SOURCE / "mine").symlink_to(here / "thesis")
    directory = RunDirectory(validated(yaml.safe_load((run / schema.CONFIG).read_text())))
    directory.path = run
    sources = {"mine/models.py": b"from the user"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settings, "sources", lambda _: sources)
        directory._write_sources()
    assert (here / "thesis" / "models.py").read_text() == "precious"
    assert (run / schema.SOURCE / "mine" / "models.py").read_text() == "from the user"


def test_the_directory_of_another_run_is_not_taken_for_the_one_named(made: Path, here: Path, launched: Command) -> None:
    run = copied(made, here / "outputs")
    other = next(path for path in run.parent.iterdir() if path.is_dir() and path != run)
    for path in other.iterdir():
        path.unlink()
    for path in run.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    answer = launched(*TINY, f"init={run_init(run, other=True)}", "name=demo", "epochs=1")
    answer.check(1, f"is a checkpoint of the run {run.name}, not of {other.name}")


def run_init(run: Path, other: bool = False) -> int:
    init = 0 if "init: 0\n" in (run / schema.CONFIG).read_text() else 1
    return 1 - init if other else init
