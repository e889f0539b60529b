from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.bias import BiasEstimate, Bound, RelativeBias, bias_bound
from atbptt.errors import ConfigError
from atbptt.experiment import build, run
from atbptt.fitting import check_probe
from atbptt.lags import LagGradients
from atbptt.measured import ParameterGradients
from atbptt.probes import Measurement, Prober
from atbptt.profiles import bias_metrics, lag_profiles, position_profiles

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
    np.testing.assert_array_equal(plain.estimate.bound.values, whole.estimate.bound.values)


def made_measurement(finite: bool = True) -> Measurement:
    bias = np.array([2.0, 0.95, 0.7, 0.3]) if finite else np.full(4, np.nan)
    resampled = np.array([[2.0, 0.8, 0.7, 0.3], [2.0, 1.5, 0.95, 0.7]])
    measured = np.array([0.8, 0.4, 0.05, 0.0])
    none = np.empty((0, 4))
    norms = np.ones((1, 4, 2)) if finite else np.full((1, 4, 2), np.inf)
    losses = np.array([[1.0, 1.0 if finite else np.nan]])
    parameters = ParameterGradients(("w",), 1.0, measured, np.array([0.5, 0.8, 0.9, 1.0]), None)
    kept = np.arange(4.0)
    gradients = LagGradients(losses, norms, norms[None], ("hidden0",), kept, kept[None], none, none, parameters, None)
    log_beta = -1.0 if finite else np.nan
    bound = Bound(bias, resampled, norms.mean(axis=(0, 2)), log_beta, bias, np.full(2, -0.1))
    return Measurement(gradients, BiasEstimate(bound, RelativeBias(measured, none)))


def test_what_is_logged_of_a_probe_by_hand() -> None:
    assert bias_metrics([made_measurement()], K=3) == [
        ("K_1", 0, 2), ("K_1_low", 0, 2), ("K_1_high", 0, 3),
        ("K_0.9", 0, 3), ("K_0.9_low", 0, 2), ("K_0.9_high", 0, 4),
        ("K_0.5", 0, 4), ("K_0.5_low", 0, 4), ("K_0.5_high", 0, math.inf),
        ("K_0.1", 0, math.inf), ("K_0.1_low", 0, math.inf), ("K_0.1_high", 0, math.inf),
        ("log_relative_bias", 0, math.log(0.7)),
        ("K_1_measured", 0, 1), ("K_0.9_measured", 0, 1), ("K_0.5_measured", 0, 2), ("K_0.1_measured", 0, 3),
        ("log_relative_bias_measured", 0, math.log(0.05)),
        ("log_beta", 0, -1.0),
        ("gradient_cosine", 0, 0.9),
    ]  # fmt: skip


def test_the_second_probe_is_replicate_1_and_K_beyond_the_window_has_no_measured_bias() -> None:
    logged = bias_metrics([made_measurement(), made_measurement()], K=9)
    assert [replicate for _, replicate, _ in logged] == [0] * 20 + [1] * 20
    assert ("log_relative_bias_measured", 1, -math.inf) in logged
    assert ("gradient_cosine", 1, 1.0) in logged


def test_profiles_have_the_bias_in_the_rows_of_the_whole_state() -> None:
    profiles = lag_profiles([made_measurement()], "mean")
    assert list(profiles["component"]) == ["all"] * 4 + ["hidden0"] * 4
    assert list(profiles["lag"]) == [1, 2, 3, 4] * 2
    np.testing.assert_array_equal(profiles["relative_bias"][:4], [2.0, 0.95, 0.7, 0.3])
    np.testing.assert_array_equal(profiles["measured_bias"][:4], [0.8, 0.4, 0.05, 0.0])
    np.testing.assert_array_equal(profiles["cosine"][:4], [0.5, 0.8, 0.9, 1.0])
    for column in ("relative_bias", "measured_bias", "cosine"):
        assert np.isnan(profiles[column][4:]).all()


def test_positions_have_the_lags_that_the_window_holds_for_them_by_hand() -> None:
    """Two probes; losses at rows 1 and 3 of a window of 4, two streams."""
    unknown = np.full(2, np.nan)
    norms = np.array([[[2, 8], [1, 4], unknown, unknown], [[4, 4], [2, 2], [1, 0.25], [0, np.inf]]])
    made = made_measurement()
    measurement = replace(made, gradients=replace(made.gradients, norms=norms))
    found = position_profiles([measurement, measurement], [1, 3], "mean")
    assert found["replicate"].tolist() == [0] * 6 + [1] * 6
    assert found["position"].tolist() == [1, 1, 3, 3, 3, 3] * 2
    assert found["lag"].tolist() == [1, 2, 1, 2, 3, 4] * 2
    assert found["phi"].tolist() == [5, 2.5, 4, 2, 0.625, np.inf] * 2
    geometric = position_profiles([measurement], [1, 3], "geometric")["phi"]
    np.testing.assert_allclose(geometric[:5], [4, 2, 4, 2, 0.5], rtol=1e-12)
    assert np.isnan(geometric[5])  # 0 times infinity: known of the lag, and no number


def test_log_beta_is_minus_infinity_where_no_tail_can_be_fitted() -> None:
    made = made_measurement()
    norms = np.array([1.0, 0.5, 0.0, 0.0])[None, :, None]
    bound = bias_bound(norms, np.cumsum(norms.ravel()), tau=2)
    logged = bias_metrics([replace(made, estimate=replace(made.estimate, bound=bound))], K=1)
    assert ("log_beta", 0, -math.inf) in logged


@pytest.mark.parametrize("average", ["mean", "geometric"])
def test_positions_averaged_are_the_profile_of_the_whole_state(settings: Any, average: str) -> None:
    """At the lags that all positions have; of the others, at those that have them."""
    made = settings("probe.positions=3", "probe.tau=5", "probe.probes=2", f"probe.average={average}")
    task, model, *_ = build(made)
    prober = Prober(made.probe, 0)
    measurements = prober.measure(model, task.loss, task.train, "evaluation", 0, **PLAIN)
    found = position_profiles(measurements, prober.positions, average)
    whole = lag_profiles(measurements, average)
    for replicate in (0, 1):
        for lag in range(1, 13):
            phi = found["phi"][(found["replicate"] == replicate) & (found["lag"] == lag)]
            assert len(phi) == sum(position + 1 >= lag for position in prober.positions)
            of_all = (whole["replicate"] == replicate) & (whole["lag"] == lag) & (whole["component"] == "all")
            expected = whole["phi"][of_all].item()
            mean = phi.mean() if average == "mean" else np.exp(np.log(phi).mean())
            assert mean == pytest.approx(expected, rel=1e-12)


def test_a_probe_that_is_not_finite_logs_no_length_and_says_why() -> None:
    measurement = made_measurement(finite=False)
    logged = {name: value for name, _, value in bias_metrics([measurement], K=3) if "measured" not in name}
    assert all(math.isnan(value) for name, value in logged.items() if name != "gradient_cosine")
    assert measurement.problem() == "its loss must be finite, and is nan in stream 1"
    assert made_measurement().problem() is None


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        ("losses", "its loss must be finite, and is inf in stream 1"),
        ("measured", "the gradient of its recurrent parameters must be finite, and not zero throughout"),
        ("bound", "the norms of its gradients are finite, but their sum is not"),
    ],
)
def test_whatever_is_not_finite_is_told_and_the_policy_does_not_see_it(
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


def test_that_a_model_is_run_step_by_step_is_told_once(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from atbptt import experiment

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


def test_measuring_a_model_without_recurrent_parameters_is_refused(settings: Any) -> None:
    made = settings("truncation=adaptive", "truncation.estimator=measured")
    task, _, policy, _ = build(made)

    class Accumulator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(task.input_size, task.output_size)

        def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
            outputs = []
            for symbol in inputs:
                state = 0.5 * state + nn.functional.one_hot(symbol, task.input_size)
                outputs.append(self.decoder(state))
            return torch.stack(outputs), state

        def initial_state(self, batch: int) -> Tensor:
            return torch.zeros(batch, task.input_size)

    check_probe(made.probe, Accumulator(), task, build(settings()).policy)
    message = r"truncation.estimator \(=measured\) needs recurrent parameters, .* model Accumulator depends on none"
    with pytest.raises(ConfigError, match=message):
        check_probe(made.probe, Accumulator(), task, policy)


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
    from atbptt import experiment

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


def test_a_probe_longer_than_the_stream_is_refused(settings: Any) -> None:
    with pytest.raises(ConfigError, match=r"\(=62\) must not exceed the training stream's 60 steps"):
        build(settings("probe.burn_in=50"))


def test_confidence_without_resamples_is_refused(settings: Any) -> None:
    message = r"probe.resamples \(=0\) must be at least 1 for truncation.confidence \(=0.9\)"
    with pytest.raises(ConfigError, match=message):
        build(settings("truncation=adaptive", "truncation.confidence=0.9", "probe.resamples=0"))
