"""The commands that read runs: table, figures, report, status, failures, compact, export, follow, probe."""

from __future__ import annotations

from atbptt.interrupts import end_silently

if __name__ == "__main__":
    end_silently()

import argparse
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from atbptt import __version__
from atbptt.errors import AnalysisError, complain, require
from atbptt.system import PROGRAM, end_process, needed_by, print_text, program, run_command

if TYPE_CHECKING:
    from .loading import Results

PATHS_HELP = "run directories, or folders with runs below them: an experiment, outputs/"
FORMATS = ("terminal", "markdown", "latex", "csv")


def main(arguments: Sequence[str], others: Mapping[str, str] | None = None) -> int:
    """Run one command; exit codes as in `run_command`, and 2 for bad usage of all commands but `probe`.

    `others` are the commands that somebody else runs, and what the help says of them.
    """
    return run_command(lambda: _run(arguments, others or {}))


def _run(arguments: Sequence[str], others: Mapping[str, str]) -> None:
    if arguments[:1] == ["probe"]:  # its parser needs torch
        from .diagnosis import probe

        probe(arguments[1:])
    else:
        options = _parser(others).parse_args(arguments)
        options.run(options)


# A function for each command; its docstring is the command's help. Libraries are imported where they are used, so that
# a command loads only its own.


def table(options: argparse.Namespace) -> None:
    """Print validation and test at the best validation, mean (sd) over init.

    For each policy at its best options, beside the published value where there is one; then every setting, the best
    after equal work, differences between policies at equal init, and how long each took to reach a target.
    """
    from .tables import print_table

    with _results(options) as results:
        _require_evaluations(results)
        print_table(results, options.metric, options.format, options.against)


def figures(options: argparse.Namespace) -> None:
    """Draw every figure that the data allow, as PNG and PDF.

    For each dataset: validation, K and relative bias over training, lag profiles, options, predictions.
    """
    from .figures import save_figures, without_probes

    with _results(options) as results:
        _require_evaluations(results)
        print_text(*save_figures(results, _target(options.out, options.path[0] / "figures", "--out")))
        if remark := without_probes(results.options):
            complain(remark)


def report(options: argparse.Namespace) -> None:
    """Write one HTML file with everything, which needs no network.

    It has a summary, leaderboard, tables, figures, failures, configuration and environment.
    """
    from .report import write_report

    with _results(options) as results:
        print_text(
            write_report(results, _target(options.out, options.path[0] / "report.html", "--out"), options.against)
        )


def status(options: argparse.Namespace) -> None:
    """Show what is waiting, running (speed, time left), finished, failed, stale.

    For each sweep the number of runs in each state and the time left, then what runs and what went wrong. Stale runs
    were killed, or have been silent for long.
    """
    from atbptt.monitor import print_status, watch_status

    (watch_status if options.watch else print_status)(options.path, options.all)


def failures(options: argparse.Namespace) -> None:
    """Show why runs failed: reason, traceback, last output.

    For each run that failed, was killed or hangs. The last output is shown where there is no traceback.
    """
    from atbptt.monitor import print_failures

    print_failures(options.path)


def compact(options: argparse.Namespace) -> None:
    """Write the tables of all runs as one Parquet file each, which load faster.

    The options, metrics and other tables are joined on experiment_id. All commands but status and failures read the
    folder as they read run directories. Nothing is deleted; a run that is in both is read from its directory.
    """
    from .loading import compact

    with _results(options) as results:
        print_text(*compact(results, _target(options.to, options.path[0] / "compact", "--to")))


def export(options: argparse.Namespace) -> None:
    """Write CSV in the form of the released code, and TensorBoard event files.

    options.csv has a row a run, metrics.csv.gz a row per evaluation and metric; experiment_id joins them. Each run has
    a folder of event files.
    """
    from .exporting import export

    with _results(options) as results:
        print_text(*export(results, _target(options.out, options.path[0] / "export", "--out")))


def follow(options: argparse.Namespace) -> None:
    """Show runs in TensorBoard, MLflow or Weights & Biases as they go, until Ctrl-C.

    Runs of any launcher, also those that begin later or ended long ago. Each is one run of the tracker, found again by
    its experiment_id: stopped and started again, nothing is sent twice. Evaluations are metrics, options are
    hyperparameters. If the tracker cannot be reached, everything is sent later.
    """
    from atbptt.monitor import check_folders

    from .following import connect, follow

    require(0 < options.every < float("inf"), "every", options.every, "must be a positive number of seconds")
    check_folders(options.path)
    tracker = connect(options.to, options.into, options.path[0])
    print_text(f"shown by: {tracker.shown_by}", flush=True)
    follow(options.path, tracker, options.every, options.once)


def _target(asked: Path | None, default: Path, option: str) -> Path:
    """Where to write; not where a link leads that somebody else may have put among the runs."""
    if asked is None and default.is_symlink():
        raise AnalysisError(f"{default}: is a link; say where to write with {option}")
    return asked or default


@contextmanager
def _results(options: argparse.Namespace) -> Iterator[Results]:
    """The runs of the command; at the end, a warning for each file that was left out."""
    from .loading import Results, asked_on_command_line

    results = Results(options.path, asked_on_command_line(options.where))
    try:
        yield results
    finally:
        _warn(results.problems)


def _require_evaluations(results: Results) -> None:
    from atbptt.runs.schema import FAILED

    frame, runs = results.frame, results.status
    if frame.empty:
        failed = int((runs["state"] == FAILED).sum())
        where = ", ".join(map(str, results.paths))
        raise AnalysisError(f"{where}: no evaluation yet (runs: {len(runs)}, failed: {failed})")


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        complain(f"warning: {problem}")
    if len(problems) > 1:
        complain(f"{len(problems)} warnings")


def _parser(others: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program(), description="What runs are doing, and what they found.")
    parser.add_argument("--version", action="version", version=f"atbptt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in others.items():
        commands.add_parser(name, help=text)

    def command(run: Callable[[argparse.Namespace], None], out: str = "") -> argparse.ArgumentParser:
        text = inspect.getdoc(run) or ""
        made = commands.add_parser(run.__name__, help=text.partition(".\n")[0], description=text)
        made.set_defaults(run=run)
        made.add_argument("path", nargs="+", type=Path, metavar="PATH", help=PATHS_HELP)
        if out:
            kind, what = ("DIR", "folder") if out.endswith("/") else ("FILE", "file")
            target = f"{what} to write to (default: {out} in the first PATH)"
            made.add_argument("--out", type=Path, metavar=kind, help=target)
        return made

    of_table = command(table)
    of_table.add_argument(
        "--metric",
        metavar="M",
        help="the valid_... metric to choose and report by, lower is better; test_... goes with it "
        "(default: valid_ppl, or valid_loss, or valid_nll for runs that have no other)",
    )
    of_table.add_argument(
        "--format",
        choices=FORMATS,
        default="terminal",
        help="how to write it (default: terminal); latex needs the package booktabs, csv has all digits",
    )
    of_figures, of_report = command(figures, "figures/"), command(report, "report.html")
    for compares in (of_table, of_report):
        compares.add_argument(
            "--against",
            metavar="POLICY",
            help='the policy that the others are compared with, as "fixed K=10" '
            "(default: the one that comes first in the sweep's command)",
        )
    of_status = command(status)
    of_status.add_argument("--all", action="store_true", help="list every run, also finished and waiting ones")
    of_status.add_argument("--watch", action="store_true", help="refresh until no run is running any more, or Ctrl-C")
    command(failures)
    of_compact = command(compact)
    of_compact.add_argument(
        "--to", type=Path, metavar="DIR", help="folder to write to (default: compact/ in the first PATH)"
    )
    of_export = command(export, "export/")
    for reads in (of_table, of_figures, of_report, of_compact, of_export):
        reads.add_argument(
            "--where",
            action="append",
            default=[],
            metavar="OPTION=VALUE",
            help="only runs with this option: one of several values (lr=1,10), a tag (tags=night), a part of the notes "
            "(notes=clip); null for runs without the option; given several times, all must hold",
        )
    of_follow = command(follow)
    of_follow.add_argument("--to", required=True, metavar="TRACKER", help="tensorboard, mlflow or wandb")
    of_follow.add_argument(
        "--into",
        metavar="WHERE",
        help="folder to write to (default: tensorboard/ in the first PATH; for wandb, WANDB_DIR or here); "
        "for mlflow the tracking URI, as sqlite:///FILE or http://HOST (default: MLFLOW_TRACKING_URI, or MLflow's own)",
    )
    of_follow.add_argument(
        "--every", type=float, default=10.0, metavar="S", help="look for news every S seconds (default: 10)"
    )
    of_follow.add_argument("--once", action="store_true", help="send what is there now, and end")
    commands.add_parser("probe", help="Measure how far back the network of a run must backpropagate, and draw it")
    return parser


if __name__ == "__main__":
    if __package__ != "analysis":  # a wheel has it as atbptt.analysis
        sys.argv[0] = PROGRAM
    with needed_by(program()):
        end_process(main(sys.argv[1:]))
