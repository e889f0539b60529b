from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from analysis.diagnosis.figure import draw
from analysis.diagnosis.measuring import diagnose
from analysis.diagnosis.report import cautions, lengths_of
from atbptt.errors import AnalysisError
from atbptt.probes import ProbeSettings
from atbptt.training import StoredModel
from atbptt.windows.prober import Prober


def test_the_numbers_are_those_of_the_runs_own_probes(trained: StoredModel) -> None:
    """Drawn as the run draws for its evaluation, the same streams give the same phi and biases."""
    settings = trained.settings.probe
    found = diagnose(trained, "train", settings, seed=5)
    (own,) = Prober(settings, trained.settings.scheme, 5).measure(
        trained.model, trained.task.loss, trained.task.train, "diagnosis", trained.step, measured=True, resampled=False
    )
    np.testing.assert_allclose(found.phi, own.phi, rtol=1e-5)
    np.testing.assert_allclose(found.measurement.bound, own.bound, rtol=1e-4)
    np.testing.assert_allclose(found.measurement.measured, own.measured, atol=1e-5)


def test_probes_are_so_many_times_as_many_streams(trained: StoredModel) -> None:
    one, three = (diagnose(trained, "train", ProbeSettings(12, 8, 4, 2, probes), seed=0) for probes in (1, 3))
    assert one.norms.shape == (2 * 4, 12)
    assert three.norms.shape == (2 * 12, 12)
    # The first probe's streams are the same, however many probes there are.
    first = three.norms.reshape(2, 3, 4, 12)[:, 0].reshape(8, 12)
    np.testing.assert_allclose(first, one.norms, rtol=1e-4)
    np.testing.assert_allclose(three.phi[:8], three.norms.mean(axis=0)[:8])
    assert len({tuple(norms) for norms in three.norms[12:].round(9)}) > 4
    for length in lengths_of(three, (0.9, 0.1)):
        assert length.bound == (three.measurement.K(length.delta) or np.inf)
        assert length.measured == three.measurement.K(length.delta, "measured")


def test_a_window_too_short_to_tell(trained: StoredModel) -> None:
    found = diagnose(trained, "train", ProbeSettings(4, 2, 0, 1, 1, 0), seed=0)
    caution = "K for delta 0.001 lies in the far half of the window (W = 4), beyond which nothing is seen"
    assert f"{caution}; --window 8 tells more" in cautions(found, (0.001,))
    estimated = replace(found, settings=replace(found.settings, kept_norm="sum"))
    assert "with kept_norm=sum what is called the bound is an estimate" in "".join(cautions(estimated, (0.9,)))


def test_without_decay_there_is_no_bound(trained: StoredModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("atbptt.probes.bias.log_decay_rate", lambda *_: 0.1)
    found = diagnose(trained, "train", trained.settings.probe, seed=0)
    assert [length.bound for length in lengths_of(found, (0.9,))] == [np.inf]
    assert any("phi does not decay (beta >= 1)" in caution for caution in cautions(found, (0.9,)))
    draw(found, (0.9,), tmp_path / "a.png")


def test_a_model_that_exits_is_reported(trained: StoredModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.diagnosis.measuring.measure", Mock(side_effect=SystemExit(0)))
    with pytest.raises(AnalysisError, match=r"^the probe fails: SystemExit: 0; "):
        diagnose(trained, "train", trained.settings.probe, seed=0)


def test_a_model_without_a_signal(trained: StoredModel) -> None:
    with torch.no_grad():
        for parameter in trained.model.parameters():
            parameter.zero_()
    with pytest.raises(AnalysisError, match="the probe tells nothing: "):
        diagnose(trained, "train", trained.settings.probe, seed=0)
