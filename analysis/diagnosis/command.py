"""`python -m analysis probe RUN`: how far back the network of a run must backpropagate, printed and drawn."""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import numpy as np
from rich.console import Console, RenderableType

from analysis.diagnosis.measuring import Diagnosis, DiagnosisError, cautions, diagnose
from analysis.diagnosis.report import report
from atbptt.errors import ConfigError, described, require, show_warning
from atbptt.probes import ProbeSettings, RelativeBias, default_tau
from atbptt.runs import schema
from atbptt.system import StorageError, check_writable
from atbptt.training import StoredModelError, open_stored_model

DELTAS = (0.9, 0.5, 0.1)
WIDTH = 80  # columns
FORMATS = (".png", ".pdf")
SPREAD = (1 - schema.INTERVAL) / 2, (1 + schema.INTERVAL) / 2


class UsageError(ValueError):
    """The command line asks for what cannot be."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0, or 1 after one line on stderr that names what is wrong."""
    try:
        options = _parser().parse_args(arguments)
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            _run(options)
        sys.stdout.flush()
    except (UsageError, StoredModelError, DiagnosisError, ConfigError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"error: {described(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.figure is not None:
        _check_figure(options.figure)
    trained = open_stored_model(options.checkpoint)
    path = options.figure or Path(f"probe_{trained.experiment_id}.png")
    if options.draw:
        check_writable("figure", path.parent)
    for remark in trained.remarks:
        _warn(remark)
    seed = trained.settings.seed if options.seed is None else options.seed
    settings = _probe_settings(trained.settings.probe, options)
    diagnosis = diagnose(trained, options.split, settings, options.delta, seed)
    _print(report(diagnosis))
    for warning in cautions(diagnosis):
        _warn(warning)
    if options.draw:
        print(f"figure: {draw(diagnosis, path)}")


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


def _probe_settings(of_run: ProbeSettings, options: argparse.Namespace) -> ProbeSettings:
    """The run's, changed where an option says so; what does not fit in a window of another length is made to fit."""
    names = ("window", "tau", "burn_in", "positions", "probes", "resamples")
    values = asdict(of_run) | {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.tau is None and values["window"] != of_run.window:
        values["tau"] = default_tau(values["window"])
    if options.window is not None:
        if options.positions is None:
            values["positions"] = max(1, min(values["positions"], values["window"] - values["tau"]))
        if values["fit_from"] is not None and values["fit_from"] > values["window"] - 2:
            values["fit_from"] = None
    return ProbeSettings(**values)


def draw(diagnosis: Diagnosis, path: Path) -> Path:
    """Draw phi by lag and the relative bias by K into a PNG or PDF file.

    Raises:
        StorageError: it cannot be written.
    """
    # Seconds to import, and a probe can do without.
    from analysis.diagnosis.figure import BiasCurve, reach
    from analysis.figures import save

    measurement, settings, trained = diagnosis.measurement, diagnosis.settings, diagnosis.trained
    low, high = np.nanquantile(diagnosis.norms, SPREAD, axis=0)
    deltas = [each.delta for each in diagnosis.lengths]

    def curve(name: str, bias: RelativeBias, lengths: list[float]) -> BiasCurve:
        ends = None, None
        if len(bias.resampled):
            ends = np.quantile(bias.resampled, SPREAD, axis=0, method="inverted_cdf")
        return BiasCurve(name, bias.values, *ends, lengths)

    curves = [curve("bound", measurement.estimate.bound, [each.bound.steps for each in diagnosis.lengths])]
    if measurement.estimate.measured is not None:
        lengths = [each.measured.steps for each in diagnosis.lengths if each.measured is not None]
        curves.append(curve("measured", measurement.estimate.measured, lengths))
    title = (
        f"{trained.settings.component('dataset').name}, {trained.settings.component('model').name}: "
        f"run {trained.experiment_id} at epoch {trained.epoch:.3g}"
    )
    log_beta = measurement.estimate.bound.log_beta
    figure = reach(title, diagnosis.phi, low, high, (settings.tau + 1, log_beta), trained.K, curves, deltas)
    return save(figure, path)


def _print(parts: RenderableType) -> None:
    """To a terminal in its width, at most `WIDTH`; elsewhere without the blanks that fill a table's lines."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDTH)
    if console.is_terminal:
        console.print(parts)
        return
    with console.capture() as capture:
        console.print(parts)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


class _Parser(argparse.ArgumentParser):
    """Raises a `UsageError` where argparse would exit with code 2."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m analysis probe",
        description="How far back must the network of a run backpropagate? Measures its gradients at every lag, at its "
        "checkpoint, on the CPU, and changes nothing of the run. Open only checkpoints that you trust.",
        epilog="Options that are left out are those of the run's own probes (see its config.yaml).",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="a run's directory, or a checkpoint in it")
    parser.add_argument("--split", default="train", metavar="S", help="train (the default), valid or test")
    parser.add_argument("--window", type=int, metavar="W", help="steps to backpropagate through")
    parser.add_argument(
        "--tau", type=int, metavar="N", help="lags summed as measured; beyond, the fitted decay (of another W: 3/4)"
    )
    parser.add_argument("--burn-in", type=int, metavar="N", help="steps before the window, without gradient")
    parser.add_argument("--positions", type=int, metavar="N", help="loss positions, spread over the window's end")
    parser.add_argument("--probes", type=int, metavar="N", help="how often each of the split's streams is drawn from")
    parser.add_argument("--resamples", type=int, metavar="N", help="of streams and positions, for intervals; 0: none")
    parser.add_argument(
        "--delta",
        type=_deltas,
        default=DELTAS,
        metavar="D,D",
        help=f"relative biases to find K for (default: {','.join(f'{delta:g}' for delta in DELTAS)})",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of what is drawn")
    figure = parser.add_mutually_exclusive_group()
    figure.add_argument(
        "--figure", type=Path, metavar="FILE", help="PNG or PDF to draw to (default: probe_<experiment_id>.png here)"
    )
    figure.add_argument("--no-figure", dest="draw", action="store_false", help="draw nothing")
    return parser


def _deltas(text: str) -> tuple[float, ...]:
    try:
        deltas = {float(part) for part in text.split(",")}
    except ValueError:
        deltas = set()
    if not deltas or not all(0 < delta < math.inf for delta in deltas):
        raise argparse.ArgumentTypeError(f"(={text}) must be numbers greater than 0, with commas between them")
    return tuple(sorted(deltas, reverse=True))


def _check_figure(path: Path) -> None:
    require(path.suffix in FORMATS and not path.is_dir(), "--figure", str(path), "must be a file .png or .pdf")
