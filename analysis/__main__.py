"""`python -m analysis table PATH...` and `python -m analysis figures PATH...`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.loading import RunsWarning, load, load_status
from atbptt.schema import FAILED

PATHS_HELP = "run directories, or folders with runs below them: an experiment, outputs/"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 after one line on stderr that names the bad input."""
    options = _parser().parse_args(arguments)
    try:
        frame, status = _read(options.path)
        if options.command == "table":
            # Imported here: each command pays for its own libraries only.
            from analysis.table import print_table

            print_table(frame, status, options.metric)
        else:
            from analysis.figures import save_figures

            for path in save_figures(frame, options.out or options.path[0] / "figures"):
                print(path)
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="Tables and figures of runs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser(
        "table",
        help="print validation and test at the best validation, mean (sd) over init",
        description="Print, for each setting of policy and options, the validation and test value at the "
        "best validation of each run: mean (sd) over init.",
    )
    table.add_argument(
        "--metric",
        metavar="M",
        help="the valid_... metric to choose and report by, lower is better; test_... goes with it "
        "(default: valid_ppl, or valid_loss, or valid_nll for runs that have no other)",
    )
    figures = commands.add_parser(
        "figures",
        help="draw validation and K against epoch",
        description="Draw the validation value and the truncation length K against the epoch, a figure for "
        "each dataset, as PNG and PDF.",
    )
    figures.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write to (default: figures/ in the first PATH)"
    )
    for command in (table, figures):
        command.add_argument("path", nargs="+", type=Path, metavar="PATH", help=PATHS_HELP)
    return parser


def _read(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics with options, and states; what is left out of them goes to stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RunsWarning)
        frame, status = load(paths), load_status(paths)
    problems: dict[str, None] = {}  # both reports name the same directories: each once, in order
    for warning in caught:
        if isinstance(warning.message, RunsWarning):
            problems.update(dict.fromkeys(warning.message.problems))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    if len(problems) > 1:
        print(f"{len(problems)} warnings", file=sys.stderr)
    if frame.empty:
        failed = int((status["state"] == FAILED).sum())
        where = ", ".join(map(str, paths))
        raise AnalysisError(f"{where}: no evaluation yet (runs: {len(status)}, failed: {failed})")
    return frame, status


if __name__ == "__main__":
    sys.exit(main())
