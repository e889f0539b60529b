"""`python -m analysis COMMAND PATH...`: table, figures, report, status, failures, compact, export, probe."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from atbptt.errors import AnalysisError
from atbptt.system import StorageError, needed_by

if TYPE_CHECKING:
    from analysis.loading import Results

PATHS_HELP = "run directories, or folders with runs below them: an experiment, outputs/"
FORMATS = ("terminal", "markdown", "latex", "csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 after one line on stderr that names the bad input."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["probe"]:  # its parser needs torch
        from analysis.diagnosis import main as probe

        return probe(given[1:])
    options = _parser().parse_args(given)
    try:
        options.run(options)
        sys.stdout.flush()
    except (AnalysisError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads any more, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


# Libraries are imported where they are used: each command pays for its own only.


def _table(options: argparse.Namespace) -> None:
    from analysis.tables import print_table

    results = _results(options)
    _require_evaluations(results)
    print_table(results, options.metric, options.format)


def _figures(options: argparse.Namespace) -> None:
    from analysis.figures import save_figures

    results = _results(options)
    _require_evaluations(results)
    for path in save_figures(results, options.out or options.path[0] / "figures"):
        print(path)
    _warn(results.problems)


def _report(options: argparse.Namespace) -> None:
    from analysis.report import write_report

    results = _results(options)
    print(write_report(results, options.out or options.path[0] / "report.html"))
    _warn(results.problems)


def _status(options: argparse.Namespace) -> None:
    from atbptt.monitor import print_status, watch_status

    (watch_status if options.watch else print_status)(options.path, options.all)


def _failures(options: argparse.Namespace) -> None:
    from atbptt.monitor import print_failures

    print_failures(options.path)


def _compact(options: argparse.Namespace) -> None:
    from analysis.loading import compact

    results = _results(options)
    for path in compact(results, options.to or options.path[0] / "compact"):
        print(path)
    _warn(results.problems)


def _export(options: argparse.Namespace) -> None:
    from analysis.exporting import export

    results = _results(options)
    for path in export(results, options.out or options.path[0] / "export"):
        print(path)
    _warn(results.problems)


def _results(options: argparse.Namespace) -> Results:
    from analysis.loading import Results

    return Results(options.path)


def _require_evaluations(results: Results) -> None:
    """Raise an AnalysisError where no run has come to an evaluation; what is left out goes to stderr."""
    from atbptt.runs.schema import FAILED

    frame, status = results.frame, results.status
    _warn(results.problems)
    if frame.empty:
        failed = int((status["state"] == FAILED).sum())
        where = ", ".join(map(str, results.paths))
        raise AnalysisError(f"{where}: no evaluation yet (runs: {len(status)}, failed: {failed})")


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    if len(problems) > 1:
        print(f"{len(problems)} warnings", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description="What runs are doing, and what they found.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], summary: str, description: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=summary, description=description)
        made.set_defaults(run=run)
        return made

    table = command(
        "table",
        _table,
        "print validation and test at the best validation, mean (sd) over init",
        "Print, for each setting of policy and options, the validation and test value at the best validation of each "
        "run: mean (sd) over init, beside the published value where there is one; then differences between policies at "
        "equal init, and how long each took to reach a target.",
    )
    table.add_argument(
        "--metric",
        metavar="M",
        help="the valid_... metric to choose and report by, lower is better; test_... goes with it "
        "(default: valid_ppl, or valid_loss, or valid_nll for runs that have no other)",
    )
    table.add_argument(
        "--format",
        choices=FORMATS,
        default="terminal",
        help="how to write it (default: terminal); latex needs the package booktabs, csv has all digits",
    )
    figures = command(
        "figures",
        _figures,
        "draw all that the runs allow, as PNG and PDF",
        "Draw, for each dataset, validation, K and relative bias over training, lag profiles, options, predictions: "
        "all that the runs hold, as PNG and PDF.",
    )
    report = command(
        "report",
        _report,
        "write one HTML file with all of it",
        "Write one HTML file that needs no network: summary, leaderboard, tables, figures, failures, configuration, "
        "environment.",
    )
    status = command(
        "status",
        _status,
        "show what is going on: waiting, running (speed, time left), finished, failed, stale",
        "Show for each sweep how many runs wait, run, are finished, failed or stale (killed, or not heard "
        "of for long), how long it takes yet, and what runs and what went wrong.",
    )
    status.add_argument("--all", action="store_true", help="list every run, those that are finished or wait too")
    status.add_argument("--watch", action="store_true", help="go on showing it until nothing runs any more, or Ctrl-C")
    failures = command(
        "failures",
        _failures,
        "show why runs failed: reason, traceback, last output",
        "Show for each run that failed, was killed or hangs the reason, the traceback, and where there is "
        "none the last lines that it printed.",
    )
    compact = command(
        "compact",
        _compact,
        "write the tables of all runs as one file each, which load faster",
        "Write the options, metrics and other tables of all runs to one folder, one Parquet file each, joined on "
        "experiment_id. All commands but status and failures read such a folder as they read run directories. "
        "Nothing is deleted; a run that is in both is read from its directory.",
    )
    compact.add_argument(
        "--to", type=Path, metavar="DIR", help="folder to write to (default: compact/ in the first PATH)"
    )
    export = command(
        "export",
        _export,
        "write CSV in the form of the released code, and TensorBoard event files",
        "Write options.csv (a row a run) and metrics.csv.gz (a row per evaluation and metric), joined on "
        "experiment_id, and a folder of TensorBoard event files for each run.",
    )
    commands.add_parser("probe", help="measure how far back the network of a run must backpropagate, and draw it")
    for made, kind, default in (
        (figures, "DIR", "figures/"),
        (report, "FILE", "report.html"),
        (export, "DIR", "export/"),
    ):
        what = "file" if kind == "FILE" else "folder"
        made.add_argument(
            "--out", type=Path, metavar=kind, help=f"{what} to write to (default: {default} in the first PATH)"
        )
    for made in (table, figures, report, status, failures, compact, export):
        made.add_argument("path", nargs="+", type=Path, metavar="PATH", help=PATHS_HELP)
    return parser


if __name__ == "__main__":
    with needed_by("python -m analysis"):
        sys.exit(main())
