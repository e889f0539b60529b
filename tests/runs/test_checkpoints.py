import hashlib
import io
import logging
from pathlib import Path

import pytest
import torch

from atbptt.runs.checkpoints import CheckpointError, load, save
from atbptt.runs.schema import CHECKPOINT, PREVIOUS_CHECKPOINT

LOG = logging.getLogger(__name__)


def test_the_last_checkpoint_comes_back(tmp_path: Path) -> None:
    assert load(tmp_path, LOG) is None
    for step in (1, 2):
        save(tmp_path, {"state": (torch.full((2,), step), None), "step": step})
    found = load(tmp_path, LOG) or {}
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
    assert (load(tmp_path, LOG) or {})["step"] == 1
    assert caplog.messages == ([] if damage == "gone" else ["checkpoint.pt is damaged and left out"])
    assert not path.exists()
    (tmp_path / PREVIOUS_CHECKPOINT).write_bytes(b"PK")
    assert load(tmp_path, LOG) is None
    assert caplog.messages[-1] == "no checkpoint can be read: the run begins anew"


@pytest.mark.parametrize("stored", [{"step": 3}, {"format": 99, "step": 3}, [1]])
def test_a_checkpoint_of_another_version_is_refused_and_left(tmp_path: Path, stored: object) -> None:
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    (tmp_path / CHECKPOINT).write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    with pytest.raises(CheckpointError, match=r"was stored by another version of atbptt .* move its folder away"):
        load(tmp_path, LOG)
    assert torch.load(tmp_path / CHECKPOINT) == stored
