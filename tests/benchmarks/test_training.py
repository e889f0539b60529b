"""What the benchmarks drive of the project still gives what they compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from atbptt.training.experiment import build
from atbptt.truncation import Probe, Progress
from benchmarks.baselines import PlainNetwork, PlainTraining
from benchmarks.composing import settings_of, trainer_of
from benchmarks.sizes import RandomSymbols, Size
from benchmarks.training import ClockedPolicy

CPU = torch.device("cpu")


def test_the_projects_loop_and_the_plain_training_go_the_same_way() -> None:
    size, K = Size(layers=1, hidden=6, batch=4), 5
    small = ("model.hidden=6", "model.embedding=null", "model.tied=false", "probe.window=12", "probe.tau=8")
    settings = settings_of(
        "experiment=ptb", "dataset=copy_fixed", *small, f"truncation.K={K}", "model.dropout=0", "probe.burn_in=4"
    )
    parts = build(settings, RandomSymbols(size.symbols, 23, size.batch))
    parts.model.double()
    plain = PlainNetwork(size.symbols, size.layers, size.hidden, size.tied).double()
    plain.load_state_dict(parts.model.state_dict())
    trainer = trainer_of(settings, parts, CPU)
    assert settings.clip_norm is not None
    training = PlainTraining(
        plain, parts.task.train, K, settings.lr, settings.clip_norm, settings.optimizer["weight_decay"]
    )
    for _ in range(7):  # five windows an epoch
        trainer._advance()
        training.advance()
    expected = parts.model.state_dict()
    for name, parameter in plain.state_dict().items():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-9, atol=1e-12)


def test_a_clocked_policy_is_the_policy_with_its_probes_timed() -> None:
    class Doubling:
        K = 2

        def update(self, progress: Progress, probe: Probe) -> None:
            assert progress == Progress(3, 10)
            assert probe(measured=True) == ["measured True, resampled False"]
            self.K *= 2

    def probe(*, measured: bool = False, resampled: bool = False) -> Sequence[Any]:
        return [f"measured {measured}, resampled {resampled}"]

    policy = ClockedPolicy(Doubling())
    assert policy.K == 2
    policy.update(Progress(3, 10), probe)
    assert policy.K == 4
    assert len(policy.seconds) == 1
