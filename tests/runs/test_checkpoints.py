from __future__ import annotations

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
    found = load(tmp_path, LOG)
    assert found is not None
    assert found["step"] == 2
    assert torch.equal(found["state"][0], torch.tensor([2, 2]))


@pytest.mark.parametrize("damage", ["half", "empty", "garbage", "one bit", "gone"])
def test_the_one_before_is_used_where_the_last_is_damaged(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(tmp_path, {"step": step, "model": torch.zeros(5000)})
    path = tmp_path / CHECKPOINT
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1  # one bit of one number
    damaged = {"half": content[: len(content) // 2], "empty": b"", "garbage": b"x" * 999, "one bit": bytes(flipped)}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(damaged[damage])
    found = load(tmp_path, LOG)
    assert found is not None
    assert found["step"] == 1
    assert ("checkpoint.pt is damaged and left out" in caplog.text) is (damage != "gone")


def test_where_none_can_be_read_the_log_says_that_the_run_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
        (tmp_path / name).write_bytes(b"PK")
    assert load(tmp_path, LOG) is None
    assert "no checkpoint can be read: the run begins anew" in caplog.text


@pytest.mark.parametrize("stored", [{"step": 3}, {"format": 99, "step": 3}, [1]])
def test_a_checkpoint_of_another_version_is_refused_and_left(tmp_path: Path, stored: object) -> None:
    buffer = io.BytesIO()
    torch.save(stored, buffer)
    (tmp_path / CHECKPOINT).write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    with pytest.raises(CheckpointError, match=r"was stored by another version of atbptt .* move its folder away"):
        load(tmp_path, LOG)
    assert torch.load(tmp_path / CHECKPOINT) == stored
