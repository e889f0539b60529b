from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from benchmarks.aside import aside
from benchmarks.timing import interleaved

CPU = torch.device("cpu")


def counted(path: str) -> object:
    """A call that notes in which process it is made, and by how many threads."""

    def call() -> None:
        with open(path, "a") as file:
            print(os.getpid(), torch.get_num_threads(), file=file)

    return call


def test_calls_are_made_in_one_process_of_their_own_and_timed_with_others(tmp_path: object) -> None:
    path, here = f"{tmp_path}/calls", []
    with aside(partial(counted, path), CPU) as call:
        first, second = interleaved([call, lambda: here.append(1)], repeats=3, device=CPU)
    lines = open(path).read().split("\n")[:-1]  # noqa: SIM115
    assert len(lines) == 7  # to begin with, for the memory, once and twice two for the time
    assert len(set(lines)) == 1
    assert lines[0].split() == [lines[0].split()[0], "1"]
    assert int(lines[0].split()[0]) != os.getpid()
    assert len(first.seconds) == len(second.seconds) == 3
    assert len(here) == 6


def failing() -> object:
    raise ValueError("no such call")


@pytest.mark.usefixtures("capfd")
def test_a_process_that_fails_is_reported() -> None:
    with pytest.raises(RuntimeError, match="has ended"), aside(failing, CPU):
        pytest.fail("it went on")
