import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from atbptt.models.point_process import LARGEST_EXPONENT, log_density, log_mean_growth, mean_interval


def test_golden_intervals(golden_point_process: dict[str, Tensor]) -> None:
    """Their loss and mean, which is right to 1e-5 in the golden numbers: sums of a trapezoid rule of 1000 points."""
    golden = golden_point_process
    log_rate, interval = golden["output"][..., -1], golden["target"][..., 1]
    found = -log_density(log_rate, golden["w"], interval).mean(dim=1)
    torch.testing.assert_close(found, golden["time_loss"], rtol=1e-9, atol=0)
    w = golden["w"].expand_as(log_rate)
    times = torch.linspace(0, float(interval.max()), 1000, dtype=torch.float64)
    density = log_density(log_rate.unsqueeze(-1), w.unsqueeze(-1), times).exp()
    by_trapezoids = torch.trapezoid(times * density, times)
    torch.testing.assert_close(by_trapezoids, golden["mean_dt"], rtol=1e-9, atol=0)
    rmse = (by_trapezoids - interval).square().mean().sqrt()
    torch.testing.assert_close(rmse, golden["rmse"], rtol=1e-9, atol=0)
    found = mean_interval(log_rate, w, float(interval.max()))
    torch.testing.assert_close(found, golden["mean_dt"], rtol=1e-5, atol=0)


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
@pytest.mark.parametrize("w", [*(sign * 10.0**e for e in range(-30, 21, 10) for sign in (-1, 1)), 0.0, 1e-8, -1e-8])
def test_value_and_gradient_are_finite_for_every_w(w: float, kind: torch.dtype) -> None:
    interval = torch.tensor([0.0, 1e-6, 0.1, 1.0, 1e3], dtype=kind)
    log_rate = torch.tensor([-30.0, 0.0, 12.0, 60.0], dtype=kind)[:, None].requires_grad_()
    growth = torch.tensor(w, dtype=kind, requires_grad=True)
    found = log_density(log_rate, growth, interval)
    gradients = torch.autograd.grad(found.sum(), (log_rate, growth))
    assert all(torch.isfinite(part).all() for part in (found, *gradients))


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
    single = log_mean_growth(value.detach().float()).item()  # also far to the left, where x / 2 + |x| / 2 would cancel
    assert single == pytest.approx(log_mean_growth(value.detach().float().double()).item(), rel=1e-5, abs=1e-7)


def test_beyond_what_can_be_seen_the_cumulative_rate_goes_on_as_a_line() -> None:
    """The exponent is log_rate where dt = 1 and w = 0."""
    at = torch.tensor([LARGEST_EXPONENT, LARGEST_EXPONENT + 2.0], dtype=torch.float64, requires_grad=True)
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    found = at - log_density(at, zero, one)
    edge = math.exp(LARGEST_EXPONENT)
    assert found.tolist() == pytest.approx([edge, 3 * edge])
    (gradient,) = torch.autograd.grad(found.sum(), at)
    assert gradient.tolist() == pytest.approx([edge, edge])


@pytest.mark.parametrize("longest", [1e-3, 1e7])
@pytest.mark.parametrize("w", [-100.0, -1.0, -1e-9, 0.0, 0.1, 1e4])
def test_the_mean_is_found_at_every_scale(w: float, longest: float) -> None:
    """Against a hundred thousand points in log t; the density may be narrow, and anywhere over many decades."""
    log_t = torch.linspace(math.log(longest) - 45, math.log(longest), 100_001, dtype=torch.float64)
    t = log_t.exp()
    for rate in (-20.0, 0.0, 9.0):
        log_rate, growth = (torch.tensor([value], dtype=torch.float64) for value in (rate, w))
        expected = torch.trapezoid(t.square() * log_density(log_rate, growth, t).exp(), log_t)
        assert mean_interval(log_rate, growth, longest).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("w", [-1.7, 0.0, 1.7])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6, 1e9])
def test_the_norm_of_the_gradient_is_finite_in_any_unit_of_time(w: float, unit: float) -> None:
    """An infinite norm would clip the gradient to nothing."""
    interval = unit * torch.rand(35, 64, generator=torch.Generator().manual_seed(0))
    log_rate = torch.zeros(35, 64, requires_grad=True)
    growth = torch.full((1, 1), w, requires_grad=True)
    log_density(log_rate, growth, interval).mean().backward()
    norm = torch.nn.utils.clip_grad_norm_([log_rate, growth], 1.0)
    assert torch.isfinite(norm)
    assert norm > 0
    assert torch.isfinite(log_rate.grad).all()  # type: ignore[arg-type]
