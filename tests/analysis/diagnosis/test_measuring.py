from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.diagnosis.command import draw
from analysis.diagnosis.measuring import (
    DiagnosisError,
    Length,
    Lengths,
    answer,
    cautions,
    diagnose,
    half_life,
    judgement,
    lag_of_share,
    length_of,
    shown_lags,
    too_short,
)
from atbptt.probes.bias import RelativeBias
from atbptt.probes.settings import ProbeSettings
from atbptt.training.stored_model import StoredModel
from atbptt.windows.prober import Prober

NAN = math.nan


def test_the_numbers_are_those_of_the_runs_own_probes(trained: StoredModel) -> None:
    """Drawn as the run draws for its evaluation, the same streams give the same phi and biases."""
    settings = trained.settings.probe
    found = diagnose(trained, "train", settings, (0.9,), seed=5)
    (own,) = Prober(settings, 5).measure(
        trained.model, trained.task.loss, trained.task.train, "diagnosis", trained.step, measured=True, resampled=False
    )
    np.testing.assert_allclose(found.phi, own.phi, rtol=1e-5)
    np.testing.assert_allclose(found.measurement.bound, own.bound, rtol=1e-4)
    np.testing.assert_allclose(found.measurement.measured, own.measured, atol=1e-5)


def test_probes_are_so_many_times_as_many_streams(trained: StoredModel) -> None:
    one, three = (
        diagnose(trained, "train", ProbeSettings(12, 8, 4, 2, probes), (0.9, 0.1), seed=0) for probes in (1, 3)
    )
    assert one.norms.shape == (2 * 4, 12)
    assert three.norms.shape == (2 * 12, 12)
    # The first probe's streams are the same, and what they are called does not depend on how many there are.
    first = three.norms.reshape(2, 3, 4, 12)[:, 0].reshape(8, 12)
    np.testing.assert_allclose(first, one.norms, rtol=1e-4)
    np.testing.assert_allclose(three.phi[:8], three.norms.mean(axis=0)[:8])
    assert len({tuple(norms) for norms in three.norms[12:].round(9)}) > 4
    assert [each.delta for each in three.lengths] == [0.9, 0.1]
    for each in three.lengths:
        assert each.bound.steps == (three.measurement.K(each.delta) or np.inf)
        assert each.measured is not None
        assert each.measured.steps == three.measurement.K(each.delta, "measured")


def test_a_window_too_short_to_tell(trained: StoredModel) -> None:
    found = diagnose(trained, "train", ProbeSettings(4, 2, 0, 1, 1, 0), (0.001,), seed=0)
    assert found.lengths[0].measured is not None
    assert found.lengths[0].measured.steps > 2
    caution = "K for delta 0.001 lies in the far half of the window (W = 4), beyond which nothing is seen"
    assert f"{caution}; --window 8 tells more" in cautions(found)


def test_without_decay_there_is_no_bound(trained: StoredModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("atbptt.probes.bias.log_decay_rate", lambda *_: 0.1)
    found = diagnose(trained, "train", trained.settings.probe, (0.9,), seed=0)
    assert found.lengths[0].bound.steps == np.inf
    assert any("phi does not decay (beta >= 1)" in caution for caution in cautions(found))
    draw(found, tmp_path / "a.png")


def test_a_model_without_a_signal(trained: StoredModel) -> None:
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.zero_()
    with pytest.raises(DiagnosisError, match="the probe tells nothing: "):
        diagnose(trained, "train", trained.settings.probe, (0.9,), seed=0)


def found(delta: float, bound: float, measured: float | None = None) -> Lengths:
    return Lengths(delta, Length(bound, NAN, NAN), None if measured is None else Length(measured, NAN, NAN))


def test_the_lag_from_which_on_phi_stays_below_a_share_of_its_first() -> None:
    assert lag_of_share(np.array([8.0, 4.0, 0.8, 0.9, 0.7, 0.1]), 0.1) == 5  # lag 3 is, lag 4 is not
    assert lag_of_share(np.array([8.0, 0.8]), 0.1) == 2
    assert lag_of_share(np.array([1.0, 0.5, 0.2]), 0.1) is None


def test_half_life() -> None:
    assert half_life(math.log(0.5)) == pytest.approx(1)
    assert half_life(math.log(0.5) / 7) == pytest.approx(7)
    assert half_life(0.0) == half_life(0.2) == math.inf


@pytest.mark.parametrize(
    ("window", "lags"),
    [(2, [1, 2]), (10, [1, 2, 5, 10]), (40, [1, 2, 5, 10, 20, 40]), (101, [1, 2, 5, 10, 20, 50, 100, 101])],
)
def test_lags_that_are_shown(window: int, lags: list[int]) -> None:
    assert shown_lags(window) == lags


def test_a_length_with_its_interval() -> None:
    values = np.array([3.0, 0.9, 0.5, 0.1])
    resampled = np.stack([values * factor for factor in np.linspace(0.5, 1.5, 20)])
    length = length_of(RelativeBias(values, resampled), 0.5)
    assert (str(length), length.interval) == ("3", "2 to 4")
    assert length_of(RelativeBias(values, resampled[:0]), 0.5).interval == ""
    none = length_of(RelativeBias(values, resampled), 0.04)
    assert (str(none), none.interval) == ("none", "none to none")


def test_the_answer_names_lengths_as_measured_and_by_the_bound() -> None:
    lengths = [found(0.9, 11, 1), found(0.1, math.inf, 7)]
    assert answer(lengths, 40) == (
        "This network must backpropagate 1 step for a relative bias of at most 0.9 and 7 steps for 0.1, as measured; "
        "by the bound, 11 and none."
    )
    assert judgement(lengths, 6, 40) == "Its present K = 6 is long enough for 0.9."
    assert judgement(lengths, 7, 40) == "Its present K = 7 is long enough for 0.9 and 0.1."


def test_what_the_window_hides_is_not_called_long_enough() -> None:
    lengths = [found(0.9, 11, 3), found(0.1, math.inf, 36)]
    assert judgement(lengths, 38, 40) == "Its present K = 38 is long enough for 0.9."
    assert judgement(lengths[1:], 38, 40) == "Whether its present K = 38 is long enough, the window does not tell."


def test_the_answer_by_the_bound_alone() -> None:
    lengths = [found(0.9, 11), found(0.5, 12), found(0.1, math.inf)]
    assert answer(lengths, 40) == (
        "By the bound, this network must backpropagate 11 steps for a relative bias of at most 0.9, 12 steps for 0.5 "
        "and farther than the bound can tell for 0.1."
    )
    assert judgement(lengths, 10, 40) == "Its present K = 10 is too short for any of these."
    assert judgement(lengths[:1], 10, 40) == "Its present K = 10 is too short for that."
    assert answer(lengths[2:], 40) == (
        "By the bound, this network must backpropagate farther than the bound can tell for a relative bias of at most "
        "0.1."
    )


def test_a_length_in_the_far_half_of_the_window_is_a_least_one() -> None:
    lengths = [found(0.9, 30, 20), found(0.1, 50, 21)]
    assert too_short(lengths, 40) == [0.1]
    assert "must backpropagate 20 steps for a relative bias of at most 0.9 and at least 21 steps for 0.1" in answer(
        lengths, 40
    )
    assert too_short([found(0.1, 50)], 40) == []
