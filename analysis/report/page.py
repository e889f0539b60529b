"""The page: every section rendered into one HTML file."""

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from PIL import Image

from atbptt.errors import AnalysisError, printable
from atbptt.monitor import Reader, Report, Run
from atbptt.runs import duration_text
from atbptt.system import replacing

from ..figures import Drawing, draw, render as render_figure, without_probes
from ..loading import Results, environment
from ..statistics import ID, comparable
from ..tables import compared_tables, tables_of
from .configuration import configuration
from .failures import failures
from .leaderboard import leaderboard
from .outcomes import outcomes
from .searches import searches
from .summary import listed, number_of_runs, remarks, states, verdict, winners

TIME = "%Y-%m-%d %H:%M:%S %Z"
COLORS = 256  # of a figure: a third of the bytes of true colour, without a visible difference
SCREEN_SCALE = 2  # pixels of the image for a pixel of the page: sharp on a phone, and when enlarged


def write_report(results: Results, path: Path, against: str | None = None) -> Path:
    """Write one HTML file about some runs, and return its path; it needs no network and no other file.

    Some runs may still be running, or have failed. The file is replaced atomically; missing folders are made. Policies
    are compared with `against`, see `compared_tables`.

    Raises:
        AnalysisError: no run can be read, none has the policy `against`, or two are of one setting and one init.
        StorageError: the file cannot be written.
    """
    if path.is_dir():  # reported before the figures are drawn
        raise AnalysisError(f"{path}: is a folder; give a file to write to")
    content = render(results, datetime.now().astimezone(), against)
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path


def render(results: Results, made: datetime, against: str | None = None) -> str:
    """The page; the same runs give the same page but for the time at which it was `made`. Errors as `write_report`."""
    report = _observed(results)
    options = results.options
    own = outcomes(results.frame, options, results.statuses, report.runs)
    groups = list(comparable(results.frame)) if own["valid"].notna().any() else []
    tables = [table for group in groups for table in tables_of(group, results)]
    tables += compared_tables(results, groups, against) if groups else []
    figures = list(pictures(draw(results))) if own["valid"].notna().any() else []
    failed, more_failures = failures(report.runs)
    searched = searches(results.searches)
    places = environment(run.last.directory for run in report.runs)
    # Last, since every part that is read can add to them.
    problems = list(dict.fromkeys([*report.problems, *results.problems, *places["problems"]]))
    counts = {
        "summary": None,
        "leaderboard": len(own),
        **({"search": sum(len(each["rows"]) for each in searched)} if searched else {}),
        "tables": len(tables),
        "figures": len(figures),
        "failures": sum(len(failure["runs"]) for failure in failed),
        "configuration": None,
        "environment": None,
        "problems": len(problems),
    }
    known = remarks(own, results, report, places, problems)
    seconds = own["train_seconds"]
    beats = [run.last.heartbeat for run in report.runs if run.last.heartbeat is not None]
    folder = Path(__file__).parent
    css, js = (Markup((folder / name).read_text(encoding="utf-8")) for name in ("report.css", "report.js"))
    return _template().render(
        title=_title(results),
        paths=results.paths,
        made=made.strftime(TIME),
        heard=datetime.fromtimestamp(max(beats)).astimezone().strftime(TIME) if beats else "",
        # What the browser may load and run: images within the page, our style and our script.
        policy=f"default-src 'none'; img-src data:; style-src '{_digest(css)}'; script-src '{_digest(js)}'",
        css=css,
        js=js,
        sections=counts.items(),
        verdict=verdict(report.runs, known),
        remarks=known,
        report=report,
        train_time=duration_text(seconds.sum()) if seconds.notna().any() else "",
        winners=winners(own, options),
        leaderboard=leaderboard(own, options),
        searches=searched,
        listed_runs=set(own[ID]),
        tables=tables,
        pictures=figures,
        without_probes=without_probes(options),
        failures=failed,
        more_failures=more_failures,
        configuration=configuration(options),
        environment=places,
        problems=problems,
    )


def pictures(drawings: Iterable[Drawing]) -> Iterator[dict[str, str | int]]:
    """Each figure as a PNG image in a data URI, with its size on the page in pixels; equal figures give equal bytes."""
    for drawing in drawings:
        image = Image.open(io.BytesIO(render_figure(drawing.figure, "png"))).convert("RGB")
        buffer = io.BytesIO()
        image.quantize(COLORS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
        yield {
            "name": drawing.name,
            "title": drawing.title,
            "caption": drawing.caption,
            "source": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
            "width": image.width // SCREEN_SCALE,
            "height": image.height // SCREEN_SCALE,
        }


def _observed(results: Results) -> Report:
    """What the monitor reads, and the runs that only compacted folders have."""
    stored = tuple(Run(status.experiment_id, status, status) for status in results.compacted)
    reader = Reader(results.paths)
    try:
        report = reader.read()
    except AnalysisError:  # no run directory
        if not stored:
            raise
        report = Report((), (), ())
    report = replace(report, unplanned=report.unplanned + stored)
    if not results.where:
        return report
    chosen = {os.path.normpath(status.directory) for status in results.statuses}

    def kept(runs: tuple[Run, ...]) -> tuple[Run, ...]:
        return tuple(run for run in runs if os.path.normpath(run.last.directory) in chosen)

    sweeps = (replace(sweep, runs=kept(sweep.runs)) for sweep in report.sweeps)
    return replace(report, sweeps=tuple(each for each in sweeps if each.runs), unplanned=kept(report.unplanned))


def _title(results: Results) -> str:
    if "name" not in results.options:
        return ", ".join(str(path) for path in results.paths)
    return listed(sorted(set(results.options["name"].dropna().astype(str))))


def _template() -> Template:
    made = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(listed=listed, minute=_minute, number=_number, runs=number_of_runs, states=states)
    return made.get_template("report.html")


def _shown(value: object) -> str:
    """What enters the page: text with escapes for control characters, and our own HTML as it is."""
    return value if isinstance(value, Markup) else printable(str(value))


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z")


def _number(value: float) -> str:
    """A number as JavaScript reads it."""
    return repr(value).replace("inf", "Infinity")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
