"""Probes: compared with plain ones and with the floor, and for growing sizes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from atbptt.models import cross_entropy
from atbptt.probes import ProbeSettings, lag_gradients, resampling_weights
from atbptt.randomness import numpy_generator, torch_generator
from benchmarks.aside import as_ours, aside
from benchmarks.baselines import PlainNetwork, one_call_probe, plain_probe
from benchmarks.floor import probe_products
from benchmarks.report import KEPT, Comparison, Goal, Row
from benchmarks.sizes import PTB_SYMBOLS, Size, random_symbols
from benchmarks.timing import Call, interleaved

STACKED = 16  # loss positions of a probe
RESAMPLES = 100  # as conf/config.yaml has
FIRST_POSITION = 0.8  # of the window, as tau is in the published settings
MEASURED_BIAS = Goal("at most", 2)


PlainProbe = Callable[[PlainNetwork, Tensor, Tensor], object]


@dataclass(frozen=True)
class Case:
    """A size of probe with its goals: how many times faster than a plain probe."""

    size: Size
    window: int
    repeats: int
    one_position: float
    a_lag: float


CASES = (
    Case(Size(layers=2, hidden=50, batch=64), window=100, repeats=9, one_position=4, a_lag=20),
    Case(Size(layers=2, hidden=128, batch=64), window=200, repeats=7, one_position=4, a_lag=15),
    Case(
        Size(layers=1, hidden=900, batch=32, symbols=PTB_SYMBOLS, tied=True),
        window=100,
        repeats=3,
        one_position=12,
        a_lag=50,
    ),
)

SMALL = Size(layers=2, hidden=8, batch=4)
MIDDLE = Size(layers=1, hidden=128, batch=64)
MIDDLE_WINDOW = 100
GROWTH_REPEATS = 5


def rows(device: torch.device, speed: float) -> Iterator[Row]:
    """All rows, each as soon as it is measured; `speed` is in multiply-adds per second."""
    for way in _our_ways(SMALL, MIDDLE_WINDOW, device):
        way()  # loads code of the libraries, which would count as memory of the first probe
    for case in CASES:
        yield from _against_the_plain_way(case, device, speed)
    for what, grown in _growth().items():
        yield from _growing(what, grown, device, speed)


def _against_the_plain_way(case: Case, device: torch.device, speed: float) -> Iterator[Row]:
    size, window = case.size, case.window
    last, stacked = _positions(window, 1), _positions(window, STACKED)
    with (
        aside(partial(plain_way, plain_probe, size, window, device), device) as plainly,
        aside(partial(plain_way, plain_probe, size, window, device), device, as_ours) as kept,
        aside(partial(plain_way, one_call_probe, size, window, device), device, as_ours) as at_once,
    ):
        ways: list[Call] = [plainly, kept, at_once, *_our_ways(size, window, device)]
        plain, plain_kept, one_call, one, many, measured, logged = interleaved(ways, case.repeats, device)
    name = f"{size} W{window}"
    floor = probe_products(size, last) / speed
    goal = Goal("at least", case.one_position)
    yield Row(
        "probe, one position, all lags",
        name,
        one,
        "a probe",
        Comparison("plain baseline", plain, "its / ours", goal=goal),
        floor,
    )
    for other, took in ((f"plain baseline, {KEPT}", plain_kept), (f"one autograd.grad, {KEPT}", one_call)):
        yield Row("probe, one position, all lags", name, one, "a probe", Comparison(other, took, "its / ours"), floor)
    lags = sum(position + 1 for position in stacked)
    floor = probe_products(size, stacked) / speed / lags
    goal = Goal("at least", case.a_lag)
    yield Row(
        f"probe, {len(stacked)} positions stacked",
        name,
        many.per(lags),
        "a position and lag",
        Comparison("plain baseline", plain.per(window), "its / ours", goal=goal),
        floor,
    )
    yield Row(
        "probe, with measured bias for all K",
        name,
        measured,
        "a probe",
        Comparison("without", one, "ours / its", ours="with measured bias", goal=MEASURED_BIAS),
    )
    yield Row(
        f"the same with {RESAMPLES} resamples, as in an evaluation",
        name,
        logged,
        "a probe",
        Comparison("phi alone", one, "ours / its", ours="all"),
    )


def _our_ways(size: Size, window: int, device: torch.device) -> list[Call]:
    """One position, many positions, one with the measured bias, and the same with intervals."""
    last = _positions(window, 1)
    return [
        our_way(size, window, last, device),
        our_way(size, window, _positions(window, STACKED), device),
        our_way(size, window, last, device, scheme="original-buffer"),
        our_way(size, window, last, device, scheme="original-buffer", resamples=RESAMPLES),
    ]


def _positions(window: int, count: int) -> list[int]:
    return ProbeSettings(window, int(FIRST_POSITION * window), positions=count).loss_positions


@dataclass(frozen=True)
class Probed:
    """A probe to measure: the varied size, the network, the window, the number of loss positions."""

    varied: str
    size: Size
    window: int
    positions: int

    @property
    def name(self) -> str:
        """Network, window and positions."""
        return f"{self.size} W{self.window}, {self.positions} position{'s' if self.positions > 1 else ''}"


def _growth() -> dict[str, list[Probed]]:
    """Probes of which one size grows, with the others as in the middle size."""
    W = MIDDLE_WINDOW
    return {
        "H": [Probed(f"H{H}", replace(MIDDLE, hidden=H), W, 1) for H in (64, 128, 256, 512)],
        "W": [Probed(f"W{W}", MIDDLE, W, 1) for W in (50, 100, 200, 400)],
        "B": [Probed(f"B{B}", replace(MIDDLE, batch=B), W, 1) for B in (16, 32, 64, 128)],
        "number of positions": [Probed(str(count), MIDDLE, W, count) for count in (1, 2, 4, 8, 16)],
    }


def _growing(what: str, probed: Sequence[Probed], device: torch.device, speed: float) -> Iterator[Row]:
    positions = [_positions(each.window, each.positions) for each in probed]
    calls = [our_way(each.size, each.window, at, device) for each, at in zip(probed, positions, strict=True)]
    before = None
    measured = interleaved(calls, GROWTH_REPEATS, device)
    for each, at, took in zip(probed, positions, measured, strict=True):
        yield Row(f"probe, as {what} grows", each.name, took, "a probe", before, probe_products(each.size, at) / speed)
        before = Comparison(each.varied, took, "ours / its", ours="this")


def our_way(
    size: Size,
    window: int,
    positions: list[int],
    device: torch.device,
    scheme: str | None = None,
    resamples: int = 0,
) -> Call:
    """A call of the project's probe."""
    model = size.network().to(device)
    inputs, targets = _symbols(size, window, device)
    weights = resampling_weights(resamples, len(positions), size.batch, numpy_generator("benchmarks, resamples"))
    generator = torch_generator("benchmarks, sketch")
    return lambda: lag_gradients(
        model, cross_entropy, inputs, targets, positions, scheme=scheme, weights=weights, generator=generator
    )


def plain_way(probe: PlainProbe, size: Size, window: int, device: torch.device) -> Call:
    """A call of a plain probe of the same network and symbols."""
    model = PlainNetwork(size.symbols, size.layers, size.hidden, size.tied)
    model.load_state_dict(size.network().state_dict())
    model.to(device)
    inputs, targets = _symbols(size, window, device)
    return lambda: probe(model, inputs, targets)


def _symbols(size: Size, window: int, device: torch.device) -> tuple[Tensor, Tensor]:
    sequence = random_symbols(window + 1, size.batch, size.symbols).to(device)
    return sequence[:-1], sequence[1:]
