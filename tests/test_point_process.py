from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from atbptt.point_process import LARGEST_EXPONENT, log_density, log_mean_growth, log_rule, mean_interval


@pytest.fixture(scope="session")
def golden_point_process(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "golden" / "point_process.npz") as archive:
        return {name: torch.tensor(archive[name]) for name in archive.files}


def uniform_rule(longest: float, points: int) -> tuple[Tensor, Tensor]:
    """The trapezoid rule of the golden numbers."""
    times = torch.linspace(0, longest, points, dtype=torch.float64)
    weights = torch.full_like(times, float(times[1]))
    weights[[0, -1]] /= 2
    return times, weights


def test_golden_loss_of_intervals(golden_point_process: dict[str, Tensor]) -> None:
    golden = golden_point_process
    found = -log_density(golden["output"][..., -1], golden["w"], golden["target"][..., 1]).mean(dim=1)
    torch.testing.assert_close(found, golden["time_loss"], rtol=1e-9, atol=0)


def test_golden_mean_interval_and_its_error(golden_point_process: dict[str, Tensor]) -> None:
    golden = golden_point_process
    log_rate, interval = golden["output"][..., -1], golden["target"][..., 1]
    times, weights = uniform_rule(float(interval.max()), 1000)
    found = mean_interval(log_rate, golden["w"].expand_as(log_rate), times, weights)
    torch.testing.assert_close(found, golden["mean_dt"], rtol=1e-9, atol=0)
    rmse = (found - interval).square().mean().sqrt()
    torch.testing.assert_close(rmse, golden["rmse"], rtol=1e-9, atol=0)


@pytest.mark.parametrize("log_rate", [-3.0, 0.0, 4.0])
@pytest.mark.parametrize("w", [-8.0, -0.5, 0.3, 5.0])
def test_the_density_is_that_of_the_paper(log_rate: float, w: float) -> None:
    """Equation 14 as it stands, where it neither cancels nor overflows."""
    for interval in (0.1, 0.7, 2.0):
        rate = math.exp(log_rate)
        expected = log_rate + w * interval + (rate - math.exp(log_rate + w * interval)) / w
        found = log_density(*(torch.tensor(v, dtype=torch.float64) for v in (log_rate, w, interval)))
        assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("w", [0.0, 1e-300, 1e-12, -1e-12, 1e-8, -1e-8])
def test_without_growth_intervals_are_exponential(w: float) -> None:
    """log f = log_rate - rate dt, with the gradient dt - rate dt^2 / 2 in w."""
    log_rate, interval = torch.tensor(1.5, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    growth = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    found = log_density(log_rate, growth, interval)
    rate = math.exp(1.5)
    assert found.item() == pytest.approx(1.5 - rate * 0.4, rel=1e-7)
    (gradient,) = torch.autograd.grad(found, growth)
    assert float(gradient) == pytest.approx(0.4 - rate * 0.4**2 / 2, rel=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("w", [*(sign * 10.0**e for e in range(-30, 21, 2) for sign in (-1, 1)), 0.0, 1e-8, -1e-8])
def test_value_and_gradient_are_finite_for_every_w(w: float, kind: torch.dtype) -> None:
    interval = torch.tensor([0.0, 1e-6, 0.1, 1.0, 1e3], dtype=kind)
    log_rate = torch.tensor([-30.0, 0.0, 12.0, 60.0], dtype=kind)[:, None].requires_grad_()
    growth = torch.tensor(w, dtype=kind, requires_grad=True)
    found = log_density(log_rate, growth, interval)
    gradients = torch.autograd.grad(found.sum(), (log_rate, growth))
    assert all(torch.isfinite(part).all() for part in (found, *gradients))


@settings(deadline=None)
@given(st.floats(-600, 600, allow_subnormal=False))
def test_the_log_of_the_mean_growth_and_its_gradient_are_exact(x: float) -> None:
    """Against log(expm1(x) / x), in the form that does not overflow, and its derivative."""
    value = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    found = log_mean_growth(value)
    (gradient,) = torch.autograd.grad(found, value)
    if abs(x) < 1e-5:
        expected, slope = x / 2 + x**2 / 24, 0.5 + x / 12
    else:
        expected = math.log(-math.expm1(-abs(x)) / abs(x)) + max(x, 0)
        slope = 1 / -math.expm1(-x) - 1 / x if x > 0 else math.exp(x) / math.expm1(x) - 1 / x
    assert found.item() == pytest.approx(expected, rel=1e-11, abs=1e-15)
    assert float(gradient) == pytest.approx(slope, rel=1e-8)


def test_the_gradient_is_autograds_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    log_rate, w = (torch.randn(20, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    interval = torch.rand(20, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *arguments: log_density(*arguments, interval), (log_rate, w))


def test_beyond_what_can_be_seen_the_cumulative_rate_goes_on_as_a_line() -> None:
    """The exponent is log_rate where dt = 1 and w = 0."""
    at = torch.tensor([LARGEST_EXPONENT, LARGEST_EXPONENT + 2.0], dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    found = at - log_density(at, zero, one)
    edge = math.exp(LARGEST_EXPONENT)
    assert found.tolist() == pytest.approx([edge, 3 * edge])
    (gradient,) = torch.autograd.grad(found.sum(), at)
    assert gradient.tolist() == pytest.approx([edge, edge])


@pytest.mark.parametrize("rate", [1e-2, 1.0, 1e4])
def test_the_mean_of_an_exponential_is_found_at_every_scale(rate: float) -> None:
    """Points evenly spaced in t would miss a mean of 1e-4 up to a longest interval of 1e3."""
    times, weights = (torch.from_numpy(part) for part in log_rule(1e-9, 1e3, 128))
    log_rate = torch.tensor([math.log(rate)], dtype=torch.float64)
    found = mean_interval(log_rate, torch.zeros(1, dtype=torch.float64), times, weights)
    missing = (1e3 + 1 / rate) * math.exp(-rate * 1e3)  # of the mean, beyond the rule's end
    assert float(found) == pytest.approx(1 / rate - missing, rel=1e-6)


def test_the_mean_stays_below_the_rules_end_where_no_event_may_ever_come() -> None:
    """With w < 0 a share of exp(-rate / |w|) has no event."""
    times, weights = (torch.from_numpy(part) for part in log_rule(1e-6, 50.0, 128))
    log_rate, w = (torch.tensor([value], dtype=torch.float64) for value in (0.0, -2.0))
    found = float(mean_interval(log_rate, w, times, weights))
    t = np.linspace(0, 50, 2_000_001)
    density = np.exp(-2 * t - (1 - np.exp(-2 * t)) / 2)
    assert found == pytest.approx(np.trapezoid(t * density, t), rel=1e-6)
