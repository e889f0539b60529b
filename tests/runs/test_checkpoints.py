import hashlib
import io
import logging
from pathlib import Path

import pytest
import torch

from atbptt.runs.checkpoints import FORMAT, CheckpointError, keep_best, load, read_checkpoint, save
from atbptt.runs.schema import BEST, CHECKPOINT, ID, PREVIOUS_BEST, PREVIOUS_CHECKPOINT

LOG = logging.getLogger(__name__)
RUN = "0123456789ab"


def test_the_last_checkpoint_comes_back(tmp_path: Path) -> None:
    assert load(tmp_path, RUN, LOG) is None
    for step in (1, 2):
        save(tmp_path, {"state": (torch.full((2,), step), None), "step": step})
    found = load(tmp_path, RUN, LOG) or {}
    assert found["step"] == 2
    assert torch.equal(found["state"][0], torch.tensor([2, 2]))


@pytest.mark.parametrize("damage", ["half", "empty", "one bit", "gone"])
def test_the_one_before_replaces_a_damaged_one(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    for step in (1, 2):
        save(tmp_path, {"step": step, "model": torch.zeros(5000)})
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    middle = len(content) // 2  # in one of the numbers
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes({"half": content[:middle], "empty": b"", "one bit": flipped}.get(damage, content))
    if damage == "gone":
        path.unlink()
    assert (load(tmp_path, RUN, LOG) or {})["step"] == 1
    assert caplog.messages == ([] if damage == "gone" else ["checkpoint.pt is damaged and left out"])
    assert not path.exists()
    (tmp_path / PREVIOUS_CHECKPOINT).write_bytes(b"PK")
    assert load(tmp_path, RUN, LOG) is None
    assert caplog.messages[-1] == "no checkpoint can be read: the run begins anew"


@pytest.mark.parametrize("stored", [{"step": 3}, {"format": 99, "step": 3}, [1]])
def test_a_checkpoint_of_another_version_is_refused_and_left(tmp_path: Path, stored: object) -> None:
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    (tmp_path / CHECKPOINT).write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    with pytest.raises(CheckpointError, match=r"was stored by another version of atbptt .* move its folder away"):
        load(tmp_path, RUN, LOG)
    assert torch.load(tmp_path / CHECKPOINT) == stored


class Evil:
    """Unpickled, it would make a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("valid", [True, False])
def test_no_code_in_a_checkpoint_runs(tmp_path: Path, valid: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "model": Evil(tmp_path / "ran")}, buffer)
    digest = hashlib.sha256(buffer.getvalue()).digest() if valid else bytes(32)
    (tmp_path / CHECKPOINT).write_bytes(buffer.getvalue() + digest)
    if valid:
        with pytest.raises(
            CheckpointError, match=r"holds an object of \S+, which is not loaded, .*; move its folder away"
        ):
            load(tmp_path, RUN, LOG)
    else:
        assert load(tmp_path, RUN, LOG) is None  # nothing in it is parsed
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_run_is_refused_and_left(tmp_path: Path) -> None:
    save(tmp_path, {"experiment_id": "another"})
    with pytest.raises(CheckpointError, match=rf"is a checkpoint of the run another, not of {RUN}; move its folder"):
        load(tmp_path, RUN, LOG)
    assert (tmp_path / CHECKPOINT).exists()


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_checkpoint_at_all_with_its_digest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt "):
        load(tmp_path, RUN, LOG)


def test_more_than_plain_values_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot be stored: state\[policy\]\[seen\] is a set, not a"):
        save(tmp_path, {"policy": {"seen": {1}}})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("last", "before", "kept"), [(3, 2, 3), (4, 3, 3), (5, 4, None), (None, 3, 3), (None, None, None)]
)
def test_the_best_model_is_that_of_the_checkpoint(
    last: int | None, before: int | None, kept: int | None, tmp_path: Path
) -> None:
    for epoch, name in ((last, BEST), (before, PREVIOUS_BEST)):
        if epoch is not None:
            save(tmp_path, {"best": {"epoch": epoch}}, name, "none")
    keep_best(tmp_path, RUN, {"epoch": 3}, LOG)
    found = read_checkpoint(tmp_path / BEST)["best"]["epoch"] if (tmp_path / BEST).exists() else None
    assert found == kept


@pytest.mark.parametrize(
    ("damaged", "message"), [(True, "best.pt is damaged"), (False, "is a checkpoint of the run a,")]
)
def test_a_best_model_that_is_damaged_or_of_another_run_is_deleted(
    damaged: bool, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, {"best": 3, ID: "a"}, BEST, "none")
    if damaged:
        (tmp_path / BEST).write_bytes(b"PK")
    keep_best(tmp_path, RUN, 3, LOG)
    assert not (tmp_path / BEST).exists()
    (line,) = caplog.messages
    assert message in line
    assert line.endswith(", and deleted")


def test_a_best_model_that_cannot_be_read_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / BEST).mkdir()
    with pytest.raises(OSError, match="folder"):
        keep_best(tmp_path, RUN, 3, LOG)
    assert (tmp_path / BEST).exists()
