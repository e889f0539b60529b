"""The sections put together to one HTML page."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from analysis.figures import draw
from analysis.loading import Results
from analysis.report.configuration import configuration
from analysis.report.environment import environment
from analysis.report.failures import failures
from analysis.report.images import pictures
from analysis.report.leaderboard import leaderboard, listed
from analysis.report.outcomes import outcomes
from analysis.report.summary import summary
from analysis.tables import equal_work_tables, paired_tables, result_tables, target_tables
from atbptt.errors import AnalysisError
from atbptt.monitor import Reader, Report, Run
from atbptt.system import replacing

TIME = "%Y-%m-%d %H:%M:%S %Z"


def write_report(results: Results, path: Path) -> Path:
    """Write one HTML file with all that is known of the runs; it needs no network and no other file.

    Arguments:
        results: the runs; some may still be running, or have failed.
        path: the file, which is replaced atomically; its folder is made if need be.

    Returns:
        The path.

    Raises:
        AnalysisError: no run that can be read.
        StorageError: the file cannot be written.
    """
    if path.is_dir():  # reported before the figures are drawn
        raise AnalysisError(f"{path}: is a folder; give a file to write to")
    content = render(results, datetime.now().astimezone())
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path


def render(results: Results, made: datetime) -> str:
    """The page; the same runs give the same page but for the time at which it was `made`.

    Raises:
        AnalysisError: no run that can be read.
    """
    report = _observed(results)
    options = results.options
    own = outcomes(results.frame, options, report.runs)
    shown_failures, more_failures = failures(report.runs)
    board = leaderboard(own, options)
    tables = []
    if own["valid"].notna().any():
        tables = [
            *result_tables(results),
            *equal_work_tables(results),
            *paired_tables(results),
            *target_tables(results),
        ]
    figures = list(pictures(draw(results))) if own["last_step"].notna().any() else []
    places = environment(run.last.directory for run in report.runs)
    # Last, since every part that is read can add to them.
    problems = list(dict.fromkeys([*report.problems, *results.problems, *places.problems]))
    sections = [
        ("summary", "Summary", None),
        ("leaderboard", "Leaderboard", len(board.rows)),
        ("tables", "Tables", len(tables)),
        ("figures", "Figures", len(figures)),
        ("failures", "Failures", sum(len(failure.runs) for failure in shown_failures)),
        ("configuration", "Configuration", None),
        ("environment", "Environment", None),
        ("problems", "Problems", len(problems)),
    ]
    css, js = _asset("report.css"), _asset("report.js")
    return _template().render(
        title=_title(results),
        paths=[str(path) for path in results.paths],
        made=made.strftime(TIME),
        heard=_heard(report.runs),
        policy=_policy(css, js),
        css=css,
        js=js,
        sections=sections,
        summary=summary(own, options, report, places, problems),
        leaderboard=board,
        tables=tables,
        pictures=figures,
        failures=shown_failures,
        more_failures=more_failures,
        configuration=configuration(options),
        environment=places,
        problems=problems,
    )


def _observed(results: Results) -> Report:
    """What the monitor reads, and the runs that only compacted folders have."""
    # The report tells runs apart by their directories.
    own = [replace(status, directory=status.directory / status.experiment_id) for status in results.compacted]
    stored = tuple(Run(status.experiment_id, status, status) for status in own)
    reader = Reader(results.paths)
    try:
        report = reader.read()
    except AnalysisError:  # no run directory
        if not stored:
            raise
        report = Report((), (), ())
    return replace(report, unplanned=report.unplanned + stored)


def _title(results: Results) -> str:
    if "name" not in results.options:
        return ", ".join(str(path) for path in results.paths)
    return listed(sorted(set(results.options["name"].dropna().astype(str))))


def _heard(runs: list[Run]) -> str:
    beats = [run.last.heartbeat for run in runs if run.last.heartbeat is not None]
    return datetime.fromtimestamp(max(beats)).astimezone().strftime(TIME) if beats else ""


@cache
def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


@cache
def _template() -> Template:
    made = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["listed"] = listed
    made.filters["number"] = _number
    return made.get_template("report.html")


def _number(value: float) -> str:
    """A number as JavaScript reads it."""
    return repr(float(value)).replace("inf", "Infinity")


def _policy(css: str, js: str) -> str:
    """What the browser may load and run: nothing from elsewhere, and no style or script but ours."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" for part in (css, js)
    )
    return f"default-src 'none'; img-src data:; style-src {style}; script-src {script}"
