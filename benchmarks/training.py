"""Training with the project's loop, window by window, compared with plain training and the floor."""

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from atbptt.config import Settings
from atbptt.probes import BiasEstimate
from atbptt.training import build
from atbptt.truncation import Policy, Probe, Progress
from benchmarks.aside import as_ours, aside
from benchmarks.baselines import BareTraining, PlainNetwork, PlainTraining
from benchmarks.composing import settings_of, trainer_of
from benchmarks.floor import training_products
from benchmarks.report import KEPT, Comparison, Goal, Row
from benchmarks.sizes import PTB_SYMBOLS, RandomSymbols, Size
from benchmarks.timing import Call, Measured, interleaved

PTB = Size(layers=1, hidden=900, batch=32, symbols=PTB_SYMBOLS, tied=True)
PTB_K = 50
PTB_REPEATS = 3
COPY = Size(layers=2, hidden=50, batch=64)
COPY_K = 15
COPY_REPEATS = 250
GROWING_K = (5, 10, 20, 40, 80)
GROWTH_REPEATS = 25
STEPS = 2000  # of the training stream; windows of K = 5, 10, ... fill it, so that all are full
PROBES = 4  # of a run whose share of probes is measured


def rows(device: torch.device, speed: float) -> Iterator[Row]:
    """All rows, each as soon as it is measured; `speed` is in multiply-adds per second."""
    yield from _ptb(device, speed)
    yield from _copy(device, speed)
    yield from _probes_share(device)
    yield from _progress_share(device)
    yield from _as_the_length_grows(device, speed)


def _ptb(device: torch.device, speed: float) -> Iterator[Row]:
    # Random symbols instead of text, and no dropout, which the floor does not count.
    settings = settings_of("experiment=ptb", "dataset=copy_fixed", "arm=K50", "model.dropout=0", "lr=1")
    baseline = partial(plain_windows, settings, PTB, PTB_K, device)
    with aside(baseline, device) as plainly, aside(baseline, device, as_ours) as kept:
        ours, plain, plain_kept = interleaved([our_windows(settings, PTB, device), plainly, kept], PTB_REPEATS, device)
    size = f"{PTB} V{PTB_SYMBOLS} K{PTB_K}"
    floor = _floor(PTB, PTB_K, speed)
    for against in (
        Comparison("plain baseline", plain, "its / ours", goal=Goal("at least", 1.8)),
        Comparison(f"plain baseline, {KEPT}", plain_kept, "its / ours"),
        Comparison("floor", Measured((floor,)), "ours / its", goal=Goal("at most", 1.4)),
    ):
        yield Row("training, PTB size", size, ours, "a window", against, floor)


def _copy(device: torch.device, speed: float) -> Iterator[Row]:
    settings = settings_of("experiment=copy_fixed", f"arm=K{COPY_K}")
    ways = [our_windows(settings, COPY, device)]
    ways += [bare_windows(COPY, COPY_K, device, hands_over) for hands_over in (True, False)]
    ours, *bare = interleaved(ways, COPY_REPEATS, device)
    for name, measured in zip(("bare nn.LSTM", "the same, state never handed over"), bare, strict=True):
        yield Row(
            "training, copy size",
            f"{COPY} K{COPY_K}",
            ours,
            "a window",
            Comparison(name, measured, "ours / its", goal=Goal("at most", 1.1)),
            _floor(COPY, COPY_K, speed),
        )


def _as_the_length_grows(device: torch.device, speed: float) -> Iterator[Row]:
    calls = [our_windows(settings_of("experiment=copy_fixed", f"truncation.K={K}"), COPY, device) for K in GROWING_K]
    before = None
    for K, window in zip(GROWING_K, interleaved(calls, GROWTH_REPEATS, device), strict=True):
        took = window.per(K)
        floor = _floor(COPY, K, speed) / K
        yield Row("training, as K grows", f"{COPY} K{K}", took, "a step", before, floor)
        before = Comparison(f"K{K}", took, "ours / its", ours="this")


def _floor(size: Size, K: int, speed: float) -> float:
    """Seconds of a full window of the scheme original-buffer: K losses after a pre-roll of K-1 steps."""
    return training_products(size, 2 * K - 1, K) / speed


def our_windows(settings: Settings, size: Size, device: torch.device) -> Call:
    """A call of the project's training loop on random symbols: one window, after the first, which has no pre-roll."""
    parts = build(settings, RandomSymbols(size.symbols, STEPS, size.batch))
    return _begun(trainer_of(settings, parts, device)._advance)


def plain_windows(settings: Settings, size: Size, K: int, device: torch.device) -> Call:
    """The same with plain training."""
    stream = RandomSymbols(size.symbols, STEPS, size.batch).train.to(device)
    decay = float(settings.optimizer["weight_decay"])
    assert settings.clip_norm is not None  # the published settings clip
    training = PlainTraining(_plain_network(size, device), stream, K, settings.lr, settings.clip_norm, decay)
    return _begun(training.advance)


def bare_windows(size: Size, K: int, device: torch.device, hands_over: bool) -> Call:
    """The same with bare training."""
    stream = RandomSymbols(size.symbols, STEPS, size.batch).train.to(device)
    return _begun(BareTraining(_plain_network(size, device), stream, K, lr=1.0, hands_over=hands_over).advance)


def _plain_network(size: Size, device: torch.device) -> PlainNetwork:
    model = PlainNetwork(size.symbols, size.layers, size.hidden, size.tied)
    model.load_state_dict(size.network().state_dict())
    return model.to(device)


def _begun(advance: Call) -> Call:
    advance()
    return advance


def _probes_share(device: torch.device) -> Iterator[Row]:
    """The policy's probes in a published run: four of them, and the training before each."""
    settings = settings_of("experiment=copy_fixed", "truncation=adaptive")
    assert settings.probe is not None
    parts = build(settings)
    policy = ClockedPolicy(parts.policy)
    trainer = trainer_of(settings, parts._replace(policy=policy), device)
    ends = [time.perf_counter()]
    while len(ends) <= PROBES:
        trainer._advance()
        if len(policy.seconds) == len(ends):
            ends.append(time.perf_counter())
    between = tuple(end - began for began, end in itertools.pairwise(ends))
    yield Row(
        "probes of adaptive experiment=copy_fixed",
        f"{COPY} W{settings.probe.window}",
        Measured(tuple(policy.seconds)),
        "a probe",
        Comparison("training", Measured(between), "ours / its", ours="probes", goal=Goal("at most", 0.05)),
    )


def _progress_share(device: torch.device) -> Iterator[Row]:
    """All probes of a run of the policy `progress`, and all of its training."""
    for scheme in ("tf", "original-buffer"):
        settings = settings_of("dataset=copy_variable", "truncation=progress", f"scheme={scheme}", "lr=3")
        parts = build(settings)
        policy = ClockedPolicy(parts.policy)
        trainer = trainer_of(settings, parts._replace(policy=policy), device)
        began = time.perf_counter()
        while not settings.budget_spent(trainer.windows.epoch, 0.0):
            trainer._advance()
        took = Measured((time.perf_counter() - began,))
        probes = Measured((sum(policy.seconds),))
        share = Comparison("training with them", took, "ours / its", ours="probes", goal=Goal("at most", 0.1))
        yield Row(
            f"probes of progress, copy_variable, {scheme}",
            f"L1 H50 B64, {settings.epochs:g} epochs",
            probes,
            f"{len(policy.seconds)} probes",
            share,
        )


class ClockedPolicy(Policy):
    """A policy with timed probes.

    Attributes:
        seconds: time of each probe.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.K = policy.K
        self.seconds: list[float] = []

    def update(self, progress: Progress, probe: Probe) -> None:
        """Update the policy and time its probes."""

        def clocked(**wanted: bool) -> Sequence[BiasEstimate]:
            began = time.perf_counter()
            estimates = probe(**wanted)  # in numpy, so a GPU has finished
            self.seconds.append(time.perf_counter() - began)
            return estimates

        self.policy.update(progress, clocked)
        self.K = self.policy.K
