"""`python -m analysis probe RUN`: how far back the network of a run must backpropagate, printed and drawn."""

import argparse
import math
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from atbptt.errors import complain, require, require_whole, show_warning
from atbptt.probes import ProbeSettings, default_tau
from atbptt.system import Console, Parser, check_writable, print_rendered, print_text, program, rendered
from atbptt.training import Trust, open_stored_model

from .measuring import diagnose
from .report import cautions, report

DELTAS = (0.9, 0.5, 0.1)
WIDTH = 80  # columns, at most
FORMATS = (".png", ".pdf")


def probe(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UsageError: bad usage.
        AnalysisError, ConfigError, StorageError: as in `open_stored_model`, `diagnose` and `draw`.
    """
    options = _parser().parse_args(arguments)
    if options.figure is not None:
        valid = options.figure.suffix in FORMATS and not options.figure.is_dir()
        require(valid, "--figure", str(options.figure), "must be a file .png or .pdf")
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        _run(options)


def _run(options: argparse.Namespace) -> None:
    if options.trust or options.module:
        sys.path.insert(0, os.getcwd())  # a user's classes are found as when the run was launched
    trained = open_stored_model(options.checkpoint, Trust(options.trust, tuple(options.module)))
    path = options.figure or Path(f"probe_{trained.experiment_id}.png")
    if options.draw:
        check_writable("figure", path.parent)
    _warn(trained.remarks)
    seed = trained.settings.seed if options.seed is None else options.seed
    require_whole("--seed", seed, 0)
    settings = _probe_settings(trained.settings.probe or ProbeSettings(), options)
    diagnosis = diagnose(trained, options.split, settings, seed)
    console = Console()
    console.width = min(console.width, WIDTH)
    print_rendered(rendered(console, report(diagnosis, options.delta)))
    _warn(cautions(diagnosis, options.delta))
    if options.draw:
        from .figure import draw  # takes seconds to import

        print_text(f"figure: {draw(diagnosis, options.delta, path)}")


def _warn(texts: Sequence[str]) -> None:
    for text in texts:
        complain(f"warning: {text}")


def _probe_settings(of_run: ProbeSettings, options: argparse.Namespace) -> ProbeSettings:
    """The run's settings with the options given; for another window, settings that do not fit in it are changed."""
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


def _parser() -> Parser:
    parser = Parser(
        prog=program("probe"),
        description="How far back must the network of a run backpropagate? Measures its gradients at every lag, at its "
        "checkpoint, on the CPU, and changes nothing of the run. Runs no code that the run names, unless told to.",
        epilog="Options that are left out are those of the run's own probes (see its config.yaml), else the defaults.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="a run's directory, or a checkpoint in it")
    parser.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="NAME",
        help="a module or package of your own, of which the run's config may name classes; may be given several times",
    )
    parser.add_argument("--trust", action="store_true", help="make whatever classes the config names: their code runs")
    parser.add_argument("--split", default="train", metavar="S", help="train (the default), valid or test")
    for name, metavar, text in (
        ("--window", "W", "steps to backpropagate through"),
        ("--tau", "N", "lags summed as measured; beyond, the fitted decay (default for another W: 3/4 of it)"),
        ("--burn-in", "N", "steps before the window, without gradient"),
        ("--positions", "N", "loss positions, spread over the window's end"),
        ("--probes", "N", "windows drawn from each stream of the split"),
        ("--resamples", "N", "resamples of streams and positions, for intervals; 0: none"),
        ("--seed", "N", "seed of the draws (default: the run's)"),
    ):
        parser.add_argument(name, type=int, metavar=metavar, help=text)
    parser.add_argument(
        "--delta",
        type=_deltas,
        default=DELTAS,
        metavar="D,D",
        help=f"relative biases to find K for (default: {','.join(f'{delta:g}' for delta in DELTAS)})",
    )
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
