from typing import Any

import numpy as np
import pytest
import torch

from atbptt.datasets import Linear
from tests.datasets.test_task import GENERATED


def linear(**changes: Any) -> Linear:
    return Linear(**GENERATED[Linear] | {"features": 2, "train_steps": 40} | changes)


def observations(**changes: Any) -> np.ndarray:
    """y of all steps, (T + 1, B, D), of many streams."""
    train = linear(**{"batch_size": 4000, **changes}).train
    return torch.cat([train.inputs, train.targets[-1:]]).double().numpy()


@pytest.mark.parametrize(("noise", "radius"), [(0.0, 0.9), (0.5, 0.0), (0.5, 0.9)])
def test_observations_are_centred_with_the_same_variance_at_every_step(noise: float, radius: float) -> None:
    """1 of the signal, noise^2 of the observation; 4000 streams estimate it to 2.2 % (one sd)."""
    y = observations(noise=noise, radius=radius)
    variances, means = y.var(axis=1), y.mean(axis=1)
    np.testing.assert_allclose(variances, 1 + noise**2, rtol=0.12)
    assert variances.mean() == pytest.approx(1 + noise**2, rel=0.02)
    np.testing.assert_allclose(means, 0, atol=0.1)


def best_error(y: np.ndarray, memory: int) -> float:
    """Mean squared error of the best linear prediction from the last `memory` observations, by least squares."""
    steps, _, features = y.shape
    past = np.concatenate([y[k : steps - memory + k] for k in range(memory)], axis=-1).reshape(-1, memory * features)
    future = y[memory:].reshape(-1, features)
    fitted = past @ np.linalg.lstsq(past, future, rcond=None)[0]
    return float(((future - fitted) ** 2).mean())


def test_in_one_dimension_the_autocovariance_decays_by_the_radius() -> None:
    """A = +-radius, C = +-1: cov(y_t, y_{t+k}) = A^k for k > 0, and the noise only at k = 0."""
    y = observations(state_size=1, features=1, radius=0.8, noise=0.5)
    covariances = [abs(float((y[: len(y) - k] * y[k:]).mean())) for k in range(4)]
    assert covariances == pytest.approx([1.25, 0.8, 0.64, 0.512], abs=0.03)
    assert best_error(y, memory=1) == pytest.approx(1.25 - 0.64 / 1.25, rel=0.03)


def test_memory_helps_as_long_as_the_radius_says() -> None:
    y = observations()
    zero, one, eight = float((y[1:] ** 2).mean()), best_error(y, 1), best_error(y, 8)
    assert zero == pytest.approx(1.25, rel=0.03)
    assert one < 0.9 * zero
    assert 0.5**2 < eight < 0.9 * one  # the observation noise of the next step cannot be predicted
    assert best_error(observations(radius=0.0), 4) == pytest.approx(1.25, rel=0.02)


def test_all_streams_and_splits_have_the_same_system() -> None:
    """A predictor fitted to one split predicts another as well as its own."""
    task = linear(batch_size=4000, train_steps=20, radius=0.95, noise=0.1)

    def moments(split: str) -> np.ndarray:
        stream = getattr(task, split)
        x, y = (part.double().numpy().reshape(-1, 2) for part in (stream.inputs, stream.targets))
        return np.linalg.lstsq(x, y, rcond=None)[0]

    np.testing.assert_allclose(moments("train"), moments("valid"), atol=0.05)
    assert np.abs(moments("train")).max() > 0.2


def test_the_loss_is_the_squared_error_averaged_over_features() -> None:
    outputs = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])  # (T=1, B=2, D=2)
    targets = torch.tensor([[[4.0, 1.0], [0.0, 3.0]]])
    task = linear()
    assert task.loss(outputs, targets).tolist() == [[5.0, 4.5]]
    assert task.measures(outputs, targets)["loss"].tolist() == [[5.0, 4.5]]
    assert task.metrics({"loss": 4.75}) == {"loss": 4.75}
    assert task.metric_names == ("loss",)
