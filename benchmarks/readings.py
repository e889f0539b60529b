"""`python -m benchmarks.readings`: what probes say of bias and noise, against the exact gradients of the whole stream.

Small networks are trained, and at two moments their parameters are held. The exact relative bias of a scheme at K is
that of the mean gradient of its updates over one pass, weighed by their losses, against the gradient of full
backpropagation through the stream; both with respect to the recurrent parameters. The exact noise of an update is the
variance over the windows of that pass. Printed by cell and task, and stored in outputs/benchmarks/readings.json.
"""

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from atbptt.models import halves, starting_state
from atbptt.probes import SCHEMES, Measurement, ProbeSettings, measure
from atbptt.randomness import torch_generator
from atbptt.system import Console, write_atomically
from atbptt.training import build, configure_torch
from atbptt.training.trainer import Parts
from atbptt.truncation import Fixed
from atbptt.windows import Window, Windows, side_by_side, step, windows
from atbptt.windows.update import window_loss
from benchmarks.composing import settings_of

CELLS = ("lstm", "gru", "rnn_tanh")
TASKS = {"copy_fixed": (), "copy_variable": (), "repeat": (), "linear": ("lr=0.1",)}
EPOCHS = (2, 15)  # of training with K = 10 before each look
PROBES = 8  # pooled: one probe of as many times the streams
LENGTHS = (("bound", 0.9), ("measured", 0.1))  # the K of these estimators and delta are looked at
SHOWN = Path("outputs/benchmarks/readings.json")


@dataclass(frozen=True)
class Reading:
    """What a pooled probe says at one K of one scheme, and what is."""

    cell: str
    task: str
    epochs: int
    scheme: str
    asked: str  # estimator and delta that gave K
    K: int
    bound: float
    of_steps: float
    measured: float
    exact: float
    noise: float  # of an update
    exact_noise: float  # NaN with fewer than 10 full windows


def main() -> int:
    """Measure, print and store."""
    configure_torch(threads=1)
    console = Console(width=160)
    readings: list[Reading] = []
    for cell in CELLS:
        for task, overrides in TASKS.items():
            readings.extend(look(cell, task, overrides))
            console.print(f"{cell} {task}: {len(readings)} readings")
    for table in (by_scheme(readings), by_cell(readings)):
        console.print(table)
    SHOWN.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(SHOWN, lambda file: file.write(json.dumps([asdict(each) for each in readings], indent=1).encode()))
    console.print(str(SHOWN))
    return 0


def look(cell: str, task: str, overrides: Sequence[str]) -> Iterator[Reading]:
    """Train one network, and read it at the given epochs."""
    settings = settings_of(f"model={cell}", f"dataset={task}", *overrides)
    assert settings.probe is not None
    parts = build(settings)
    stream, done = parts.task.train, 0
    training = Windows(parts.model, parts.task.loss, stream.inputs, stream.targets, Fixed(10))
    for epochs in EPOCHS:
        for _ in range(epochs - done):
            for window in training:
                for group in parts.optimizer.param_groups:
                    group["lr"] = settings.lr * np.sqrt(10)
                step(parts.model, parts.optimizer, window.loss(), 1 / window.losses)
        done = epochs
        for scheme in SCHEMES:
            found = probe(parts, settings.probe, scheme)
            parameters = found.gradients.parameters
            assert parameters is not None
            assert parameters.noise is not None
            for estimator, delta in LENGTHS:
                K = found.K(delta, estimator)
                if K is None or settings.probe.window // 2 < K:
                    continue
                exact, noise = of_stream(parts, scheme, K, parameters.names)
                yield Reading(
                    *(cell, task, epochs, scheme, f"{estimator} {delta}", K, found.estimate.bound.at(K)),
                    *(float(parameters.bias_of_steps[K - 1]), float(parameters.bias[K - 1]), exact),
                    *(float(parameters.noise.of_update[K - 1]) * PROBES, noise),
                )


def probe(parts: Parts, settings: ProbeSettings, scheme: str) -> Measurement:
    """Several probes, pooled."""
    drawn = [parts.task.train.draw(settings.steps, torch_generator("readings", n)) for n in range(PROBES)]
    inputs, targets, *_ = side_by_side(drawn)
    return measure(parts.model, parts.task.loss, inputs, targets, settings, scheme, drawn_for=("readings", 0))


def of_stream(parts: Parts, scheme: str, K: int, names: Sequence[str]) -> tuple[float, float]:
    """The exact relative bias of a scheme at K, and the variance of its updates."""
    length = parts.task.train.length
    # `original` counts no loss before the first step that has K steps to go back through.
    counted = Window(0, K - 1 if scheme == "original" else 0, length, length, length)
    full, _ = gradients(parts, [counted], names)
    each, losses = gradients(parts, windows(scheme, K, length), names)
    mean = (each * losses[:, None]).sum(dim=0) / losses.sum()
    # Behind the state's first steps from zero, whose gradients are others.
    settled = each[len(each) // 8 : -1]
    noise = float(settled.var(dim=0).sum()) if len(settled) >= 10 else float("nan")
    return float((mean - full[0]).norm() / full[0].norm()), noise


def gradients(parts: Parts, cut: Iterable[Window], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The gradient of each window by the recurrent parameters, (windows, n), and its number of losses."""
    stream, model = parts.task.train, parts.model
    named = dict(model.named_parameters())
    wanted = [named[name] for name in names]
    state = starting_state(model, stream.read(0, 1)[0], None)
    found, losses = [], []
    for window in cut:
        objective, _, state = window_loss(halves(model), parts.task.loss, stream, window, state)
        parts_of = torch.autograd.grad(objective, wanted, materialize_grads=True)
        found.append(torch.cat([part.flatten() for part in parts_of]).double())
        losses.append(window.losses)
    return torch.stack(found), torch.tensor(losses, dtype=torch.float64)


def by_scheme(readings: Sequence[Reading]) -> Table:
    """How far what is measured lies from what is."""
    table = Table(
        "scheme", "K by", "readings", "K", "exact bias", "|measured - exact|", "|of steps - exact|", "noise / exact"
    )
    for scheme in SCHEMES:
        for estimator, delta in LENGTHS:
            asked = f"{estimator} {delta}"
            rows = [each for each in readings if (each.scheme, each.asked) == (scheme, asked)]
            if not rows:
                continue
            off = [abs(each.measured - each.exact) for each in rows]
            before = [abs(each.of_steps - each.exact) for each in rows]
            noises = [each.noise / each.exact_noise for each in rows if np.isfinite(each.exact_noise)]
            table.add_row(
                *(scheme, asked, str(len(rows))),
                *(spread([each.K for each in rows], ".0f"), spread([each.exact for each in rows])),
                *(spread(off), spread(before), spread(noises)),
            )
    return table


def by_cell(readings: Sequence[Reading]) -> Table:
    """The bound over the exact bias of K steps, which is that of scheme `original`."""
    table = Table("cell", "task", "bound / exact bias of K steps", "readings")
    chosen = [each for each in readings if each.scheme == "original" and np.isfinite(each.bound)]
    for (cell, task), rows in groupby(chosen, lambda each: (each.cell, each.task)):
        ratios = [each.bound / each.exact for each in rows]
        table.add_row(cell, task, spread(ratios), str(len(ratios)))
    return table


def spread(values: Sequence[float], form: str = ".2g") -> str:
    """Median, least and greatest; empty without any."""
    if not values:
        return ""
    shown = [
        f"{each:{form}}" if abs(each) < 100 else f"{each:.0f}" for each in (median(values), min(values), max(values))
    ]
    return "{} ({} to {})".format(*shown)


if __name__ == "__main__":
    sys.exit(main())
