"""`python -m analysis COMMAND PATH...`: table, figures, status, failures."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.errors import AnalysisError

if TYPE_CHECKING:
    import pandas as pd

PATHS_HELP = "run directories, or folders with runs below them: an experiment, outputs/"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 after one line on stderr that names the bad input."""
    options = _parser().parse_args(arguments)
    try:
        # Imported where they are used: each command pays for its own libraries only.
        if options.command == "status":
            from analysis.status import print_status, watch_status

            (watch_status if options.watch else print_status)(options.path, options.all)
        elif options.command == "failures":
            from analysis.failures import print_failures

            print_failures(options.path)
        elif options.command == "table":
            from analysis.table import print_table

            print_table(*_read(options.path), options.metric)
        else:
            from analysis.figures import save_figures

            frame, _ = _read(options.path)
            for path in save_figures(frame, options.out or options.path[0] / "figures"):
                print(path)
        sys.stdout.flush()
    except AnalysisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="What runs are doing, and what they found.")
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
    status = commands.add_parser(
        "status",
        help="show what is going on: waiting, running (speed, time left), finished, failed, stale",
        description="Show for each sweep how many runs wait, run, are finished, failed or stale (killed, or not heard "
        "of for long), how long it takes yet, and what runs and what went wrong.",
    )
    status.add_argument("--all", action="store_true", help="list every run, those that are finished or wait too")
    status.add_argument("--watch", action="store_true", help="go on showing it until nothing runs any more, or Ctrl-C")
    failures = commands.add_parser(
        "failures",
        help="show why runs failed: reason, traceback, last output",
        description="Show for each run that failed, was killed or hangs the reason, the traceback, and where there is "
        "none the last lines that it printed.",
    )
    for command in (table, figures, status, failures):
        command.add_argument("path", nargs="+", type=Path, metavar="PATH", help=PATHS_HELP)
    return parser


def _read(paths: list[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Metrics with options, and states; what is left out of them goes to stderr."""
    from analysis.loading import RunsWarning, load, load_status
    from atbptt.schema import FAILED

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
