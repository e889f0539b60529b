import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from atbptt.truncation import Probe, Progress
from benchmarks.aside import aside
from benchmarks.floor import probe_products, recurrent_products, state_products, training_products
from benchmarks.memory import peak_growth
from benchmarks.sizes import Size
from benchmarks.timing import Measured, interleaved, seconds_of
from benchmarks.training import ClockedPolicy

CPU = torch.device("cpu")


def test_calls_are_timed_in_turn_after_one_call_each() -> None:
    called: list[str] = []
    first, second = interleaved([lambda: called.append("a"), lambda: called.append("b")], repeats=3, device=CPU)
    assert called == ["a", "b"] * 2 + ["a", "a", "b", "b"] * 2  # short ones once before, from the second turn on
    assert len(first.seconds) == len(second.seconds) == 3


def test_the_seconds_of_a_call_their_median_and_its_parts() -> None:
    assert seconds_of(lambda: time.sleep(0.02), CPU) >= 0.02
    measured = Measured((4.0, 1.0, 2.0), memory_bytes=10)
    assert measured.median == 2.0
    assert measured.per(2) == Measured((2.0, 0.5, 1.0), memory_bytes=10)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
def test_the_peak_memory_is_that_of_the_call() -> None:
    """40 MB that are free again when the call ends, and less than what was used before."""
    held = torch.ones(25_000_000)
    del held
    grown = peak_growth(lambda: torch.ones(10_000_000), CPU)
    if grown is None:
        pytest.skip("this container does not let a process reset its peak")
    assert 35e6 < grown < 80e6


def note(path: Path) -> None:
    """Note the process and its number of threads."""
    with open(path, "a") as file:
        print(os.getpid(), torch.get_num_threads(), file=file)


def test_calls_aside_are_made_in_one_other_process(tmp_path: Path) -> None:
    path = tmp_path / "calls"
    with aside(partial(partial, note, path), CPU) as call:
        first, second = interleaved([call, lambda: None], repeats=3, device=CPU)
    lines = path.read_text().splitlines()
    assert len(lines) == 7  # to begin with, for the memory, once and twice two for the time
    ((pid, threads),) = {tuple(line.split()) for line in lines}
    assert (int(pid) != os.getpid(), threads) == (True, "1")
    assert len(first.seconds) == len(second.seconds) == 3


@pytest.mark.usefixtures("capfd")
def test_a_process_that_fails_is_reported() -> None:
    with pytest.raises(RuntimeError, match="has ended"), aside(partial(int, "no number"), CPU):
        pytest.fail("it went on")


def test_a_clocked_policy_is_the_policy_with_its_probes_timed() -> None:
    class Doubling:
        K = 2

        def update(self, progress: Progress, probe: Probe) -> None:
            self.K *= 2
            assert (progress, probe(measured=True)) == (Progress(3, 10), ["as asked"])

    probe = Mock(return_value=["as asked"])
    policy = ClockedPolicy(Doubling())
    assert policy.K == 2
    policy.update(Progress(3, 10), probe)
    probe.assert_called_once_with(measured=True)
    assert policy.K == 4
    assert len(policy.seconds) == 1


def test_the_products_that_cannot_be_avoided() -> None:
    one_hot = Size(layers=2, hidden=3, batch=5, symbols=7)
    tied = Size(layers=1, hidden=3, batch=5, symbols=7, tied=True)
    # Four gates of 3 numbers, each from 3: 36 for a matrix.
    assert state_products(one_hot) == 3 * 36  # own h of both layers, and the lower layer's h for the upper
    assert recurrent_products(one_hot) == 3 * 36  # a one-hot input takes none
    assert (state_products(tied), recurrent_products(tied)) == (36, 36 + 36)  # the embedding's 3 numbers
    # An update, forward, inputs and weights: three times 5 streams of 9 steps of 72 and 5 decoded ones of 3 * 7.
    assert training_products(tied, steps=9, losses=5) == 3 * 5 * (9 * 72 + 5 * 21)
    # A probe: 8 steps forward; back from step 7 over 8 lags and from step 5 over 6; two decoded, forward and back.
    assert probe_products(one_hot, [7, 5]) == 5 * (8 * 108 + 14 * 108 + 2 * 2 * 21)
    assert probe_products(tied, [7]) == 5 * (8 * 72 + 8 * 36 + 2 * 21)
