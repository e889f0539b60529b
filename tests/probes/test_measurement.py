from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.probes.bias import RelativeBias
from atbptt.training.experiment import build, run
from atbptt.windows.prober import Prober
from tests.helpers.measuring import made_measurement

MEASURED = {"measured": True, "resampled": True}
PLAIN = {"measured": False, "resampled": False}


def test_draws_depend_on_seed_purpose_step_and_probe_alone(settings: Any) -> None:
    made = settings("probe.probes=2")
    task, model, *_ = build(made)

    def found(seed: int = 0, purpose: str = "policy", step: int = 3, probe: int = 0) -> list[np.ndarray]:
        measured = Prober(made.probe, seed).measure(model, task.loss, task.train, purpose, step, **MEASURED)[probe]
        return [measured.estimate.bound.phi, measured.gradients.weights, measured.estimate.measured.resampled]

    for again, once in zip(found(), found(), strict=True):
        np.testing.assert_array_equal(again, once)
    for other in (found(seed=1), found(purpose="evaluation"), found(step=4), found(probe=1)):
        assert not any(np.array_equal(one, another) for one, another in zip(found(), other, strict=True))


def test_a_measurement_covers_the_window_and_every_K_of_the_stream(settings: Any) -> None:
    made = settings("probe.resamples=7")
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    (measured,) = prober.measure(model, task.loss, task.train, "policy", 0, **MEASURED)
    assert measured.gradients.norms.shape == (2, 12, 4)
    assert measured.estimate.bound.phi.shape == (12,)
    assert measured.estimate.bound.values.shape == (60,)
    assert measured.estimate.bound.resampled.shape == (7, 12)
    assert measured.estimate.bound.at(10**12) == measured.estimate.bound.values[-1]
    assert measured.estimate.measured.values.shape == (12,)
    assert measured.estimate.measured.resampled.shape == (7, 12)
    assert measured.estimate.measured.at(12) == 0  # against the whole window
    assert prober.steps == 16  # burn-in and window


def test_what_is_not_asked_for_is_not_measured_and_changes_nothing_else(settings: Any) -> None:
    made = settings()
    task, model, *_ = build(made)
    (plain,), (whole,) = (
        Prober(made.probe, 0).measure(model, task.loss, task.train, "policy", 0, **how) for how in (PLAIN, MEASURED)
    )
    assert plain.estimate.measured is None
    assert plain.estimate.bound.resampled.shape == (0, 12)
    # Some processors sum a product of more rows in another order.
    np.testing.assert_allclose(plain.estimate.bound.values, whole.estimate.bound.values, rtol=1e-6)


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("losses", "its loss must be finite, and is inf in stream 1"),
        ("measured", "the gradient of its recurrent parameters must be finite, and not zero throughout"),
        ("bound", "the norms of its gradients are finite, but their sum is not"),
    ],
)
def test_whatever_is_not_finite_is_reported_and_the_policy_does_not_see_it(
    what: str, problem: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = made_measurement()
    nothing = np.full(4, np.nan)
    bad = {
        "losses": replace(good, gradients=replace(good.gradients, losses=np.array([[1.0, np.inf]]))),
        "measured": replace(good, estimate=replace(good.estimate, measured=RelativeBias(nothing, np.empty((0, 4))))),
        "bound": replace(good, estimate=replace(good.estimate, bound=replace(good.estimate.bound, values=nothing))),
    }[what]
    assert bad.problem() == problem
    monkeypatch.setattr(Prober, "measure", lambda *_, **__: [bad, good])
    adaptive = ("truncation=adaptive", "truncation.delta=0.95", "truncation.K_init=7", "truncation.K_min=1")
    made = settings(*adaptive, "probe.positions=1")  # as `made_measurement` has
    directory = run(made)
    log = Path(directory.path / "log.txt").read_text()
    assert f"probe 0 for policy says nothing, and changes nothing: {problem}" in log
    assert directory.status()["K"] == 2  # of the good one


def test_that_a_model_is_run_step_by_step_is_reported_once(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from atbptt.training import experiment

    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.initial_state = inner, inner.initial_state

        def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
            outputs, (h, c) = self.inner(inputs, state)
            return outputs, (h * 1, c)

    def wrapped(*arguments: Any) -> Any:
        parts = build(*arguments)
        return parts._replace(model=Wrapped(parts.model))

    monkeypatch.setattr(experiment, "build", wrapped)
    log = Path(run(settings()).path / "log.txt").read_text()
    assert log.count("probes run the model step by step, which takes longer: the state it hands on is not its") == 1


class NotFiniteNow(nn.Module):
    """Its loss is NaN in evaluation mode, where probes run, and only after the checks before the first step."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.initial_state = inner, inner.initial_state

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        outputs, state = self.inner(inputs, state)
        return outputs if self.training else outputs * torch.nan, state


def test_a_nan_in_a_probe_is_reported_changes_no_K_and_the_run_goes_on(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atbptt.training import experiment

    def rotten(*arguments: Any) -> Any:
        parts = build(*arguments)
        return parts._replace(model=NotFiniteNow(parts.model))

    monkeypatch.setattr(experiment, "build", rotten)
    for estimator in ("bound", "measured"):
        directory = run(settings("truncation=adaptive", "truncation.K_init=7", f"truncation.estimator={estimator}"))
        log = Path(directory.path / "log.txt").read_text()
        assert "probe 0 for policy says nothing, and changes nothing: its loss must be finite, and is nan in" in log
        assert log.count(", K 7, ") == 3
        assert "finished: 2 epochs" in log
