"""Odd and crafted files of runs: no traceback, no hang, nothing outside; a bad run is named, the others are read."""

import html
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import analysis
from analysis import AnalysisError, RunsWarning, load_trials
from analysis.loading import Results, compact
from atbptt.runs import schema
from tests.helpers.spoiling import (
    CONTROL,
    Spoil,
    added,
    another,
    column,
    content,
    copied,
    device,
    entries,
    folder,
    loop,
    options,
    pipe,
    plan,
    repeated,
    replaced,
    search,
    several,
    sparse,
    status,
)
from tests.hostile.conftest import Answer, Command

INF, NAN = float("inf"), float("nan")
DEEP = b'{"state":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
TABLES = ("table", "compact")  # which read the tables
STATES = ("status", "failures")  # which read the states
ALL = (*TABLES, *STATES)
# What is spoiled, by which commands it is read, and words of each answer; without words, all is well.
ODD: dict[str, tuple[Spoil, tuple[str, ...], tuple[str, ...]]] = {
    f"{name} is a {kind.__name__}": (replaced(name, kind), commands, words)
    for name, commands, words in (
        (schema.OPTIONS, ("table",), ("options.parquet", "skipped")),
        (schema.METRICS, ("table",), ("metrics.parquet", "skipped")),
        (schema.GRADIENTS, ("compact",), ("gradients.parquet", "skipped")),
        (schema.PREDICTIONS, ("compact",), ("predictions.parquet", "skipped")),
        (schema.STATUS, STATES, ("status.json", "unknown")),
        (schema.ENVIRONMENT, ("table",), ()),
        (schema.LOCK, ALL, ()),
        (schema.TRACEBACK, ("failures",), ()),
    )
    for kind in (pipe, device, loop, folder)
}
ODD |= {
    "an empty status": (replaced(schema.STATUS, content(b"")), STATES, ("status.json", "unknown")),
    "a binary status": (replaced(schema.STATUS, content(bytes(range(256)))), STATES, ("status.json", "unknown")),
    "a status nested deep": (replaced(schema.STATUS, content(DEEP)), STATES, ("status.json", "unknown")),
    "a status that is a list": (replaced(schema.STATUS, content(b"[1]")), STATES, ("must be one of running",)),
    "a number of 5,000 digits": (
        replaced(schema.STATUS, content(b'{"state": "finished", "epoch": ' + b"9" * 5000 + b"}")),
        STATES,
        ("status.json", "unknown"),
    ),
    "times out of range": (status(heartbeat=1e300, started=-1e300, state="failed"), ALL, ()),
    "times of the year 10000": (status(heartbeat=2.6e11, state="failed", error="no"), ALL, ()),
    "numbers out of range": (status(K=10**400, epoch=10**400, pid=10**30, attempt=2**63, elapsed=1e300), ALL, ()),
    "a state that is a list": (status(state=["failed"]), STATES, ("must be one of running",)),
    "entries of other types": (status(epoch="x", K=None, best=[], monitor=3, state="failed", error={}), ALL, ()),
    "a failed run whose words never end": (
        several(
            status(state="failed", error="unheard of"),
            replaced(schema.OUTPUT, pipe),
            replaced(schema.TRACEBACK, device),
        ),
        ("failures",),
        ("unheard of",),
    ),
    "control characters": (
        status(error=CONTROL, host=CONTROL, monitor=CONTROL, state="failed"),
        STATES,
        (r"\x1b[2J",),
    ),
    "halves of characters": (status(error="\ud800", host="\ud800", state="failed"), STATES, (r"\ud800",)),
    "an id that leads elsewhere": (status(experiment_id="../../x"), ALL, ()),
    "options with an id that leads elsewhere": (options(experiment_id="../.."), TABLES, ("experiment_id (=../..)",)),
    "options with an absolute id": (options(experiment_id="/tmp/x"), TABLES, ("experiment_id (=/tmp/x)", "skipped")),
    "options with a name that leads elsewhere": (options(name="../.."), TABLES, ("name (=../..)", "skipped")),
    "options with a name of control characters": (options(name=CONTROL), TABLES, (r"name (=\x1b[2J", "skipped")),
    "options with control characters": (options(model=CONTROL, dataset=CONTROL, notes=CONTROL), TABLES, ()),
    "a key with control characters": (options(**{CONTROL: 1}), TABLES, ()),
    "options with halves of characters": (options(model="\ud800"), TABLES, ("options.parquet", "skipped")),
    "an option that is no number": (options(lr="x"), TABLES, ("options.parquet: lr (=x) must be a number", "skipped")),
    "options of other types": (options(init=0.5, model=[1], truncation__delta="x", truncation__K=[2]), TABLES, ()),
    "tags that are no text": (options(tags=5), TABLES, ("options.parquet: tags (=5) must be a text", "skipped")),
    "notes that are no text": (options(notes=5), TABLES, ("options.parquet: notes (=5) must be a text", "skipped")),
    "options without an init": (options(init=None, dataset="", truncation=""), TABLES, ()),
    "options out of range": (options(lr=10**300, epochs=1e308, init=-(2**62)), TABLES, ()),
    "a metric with control characters": (column(schema.METRICS, "metric", f"valid_{CONTROL}"), TABLES, ()),
    "an endless epoch": (column(schema.METRICS, "epoch", INF), TABLES, ("column epoch has inf", "file skipped")),
    "no epoch": (column(schema.METRICS, "epoch", NAN), TABLES, ("column epoch has nan", "file skipped")),
    "a negative step": (column(schema.METRICS, "step", -5), TABLES, ("column step has -5", "file skipped")),
    "values that are no numbers": (column(schema.METRICS, "value", NAN), ("compact",), ()),
    "values without an end": (column(schema.METRICS, "value", INF), ("compact",), ()),
    "values out of range": (column(schema.METRICS, "value", -1e308), ("compact",), ()),
    "lags out of range": (column(schema.GRADIENTS, "lag", 2**31 - 1), ("compact",), ("column lag has 2.14748e+09",)),
    "a plan of times out of range": (plan(started=1e300), STATES, ("plan.json", "started (=1e+300)", "sweep skipped")),
    "a plan of 10000 in Tokyo": (plan(started=253_402_300_799), STATES, ("must be a time in seconds",)),
    "a plan of an endless pid": (plan(pid=INF), STATES, ("plan.json", "sweep skipped")),
    "a plan of lines of its own": (plan(job__label="a\nfinished  all runs", command=["a\nb"]), STATES, ()),
    "a status of 8 TB": (replaced(schema.STATUS, sparse), STATES, ("status.json: has 8,000,000,000,000 bytes",)),
    "options of 8 TB": (replaced(schema.OPTIONS, sparse), TABLES, ("has 8,000,000,000,000 bytes", "skipped")),
    "a plan without jobs": (plan(jobs=None), STATES, ("plan.json", "sweep skipped")),
    "a plan whose paths are no paths": (plan(job__path="a\0b"), STATES, ("plan.json", "path (=a\\x00b)")),
    "a plan whose paths lead elsewhere": (plan(job__path="../../../../etc"), STATES, ()),
    "a plan of a long label": (plan(job__label="x" * 1_000_000), ("status",), ("... (1,000,000 characters)",)),
    "a plan with halves of characters": (plan(command=["\ud800"], host="\ud800", job__label="\ud800"), STATES, ()),
    "a plan with control characters": (plan(command=[CONTROL], host=CONTROL, job__label=CONTROL), STATES, ()),
}


@pytest.mark.parametrize(("case", "command"), [(case, command) for case, (_, by, _) in ODD.items() for command in by])
def test_an_odd_run_is_named_and_the_rest_is_read(
    case: str, command: str, made: Path, here: Path, analysed: Command
) -> None:
    spoil, _, words = ODD[case]
    run = copied(made, here / "outputs")
    other = next(path for path in run.parent.iterdir() if path.is_dir() and path != run)
    spoil(run)
    before = entries(here)
    answer = analysed(command, "outputs/demo", *(["--all"] if command == "status" else []))
    answer.check(0, *words)
    if command == "compact":
        return
    assert entries(here) == before
    if command == "status":
        assert "finished" in answer.out
    if command == "table":
        assert "copy_fixed" in answer.out
        assert other.name not in answer.err


# What other commands read of the same, and show of what they leave out.
READ = {"report": ("table", "failures"), "figures": ("table",), "export": ("table",), "follow": ("table",)}


@pytest.fixture(scope="session")
def all_odd(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of output folders: one with two good runs, and one with each of the odd ones."""
    top = tmp_path_factory.mktemp("odd")
    copied(made, top / "good")
    for number, (spoil, _, _) in enumerate(ODD.values(), 2):
        run = copied(made, top / f"{number:02}")
        shutil.rmtree(next(path for path in run.parent.iterdir() if path != run))
        another(number)(run)
        spoil(run)
    return top


@pytest.mark.parametrize("command", READ)
def test_all_odd_runs_at_once_are_named_and_the_rest_is_read(
    command: str, all_odd: Path, here: Path, analysed: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.figures.drawing.DPI", 40)
    monkeypatch.setattr("analysis.figures.drawing.FORMATS", ("png",))
    monkeypatch.setattr("analysis.report.page.draw", lambda _: [])  # `figures` draws the same
    before = entries(all_odd)
    into = ["--to", "tensorboard", "--once", "--into"] if command == "follow" else ["--out"]
    answer = analysed(command, str(all_odd), *into, str(here / "out"))
    page = html.unescape((here / "out").read_text()) if command == "report" else ""
    page = page.replace("<summary>Traceback", "")  # our own word for that of a failed run
    words = []
    for number, (_, by, named) in enumerate(ODD.values(), 2):
        if named and not {*by}.isdisjoint(READ[command]):
            words += [f"{all_odd}/{number:02}/", *named]
    Answer(answer.code, answer.out + page, answer.err).check(0, *words)
    assert entries(all_odd) == before


@pytest.mark.parametrize("part", ["", "_options", "_metrics", "_gradients", "_predictions", "_status", "_trials"])
def test_the_library_reads_the_rest_of_all_odd_runs(part: str, made: Path, all_odd: Path) -> None:
    read = getattr(analysis, f"load{part}")
    with pytest.warns(RunsWarning, match="options.parquet: is a pipe or a device, not a file; run skipped"):
        found = read(all_odd)
    assert part == "_trials" or {*read(made)["experiment_id"]} < {*found["experiment_id"]}


@pytest.mark.parametrize(
    ("spoil", "command"),
    [
        (options(model="=1+1", notes="@x", tags="+1", lr=-1.0), "export"),
        (options(dataset=f"../../{CONTROL}", model=CONTROL), "report"),
        pytest.param(options(dataset="d" * 400, truncation__K="x", probe__tau=-1), "figures", marks=pytest.mark.slow),
        pytest.param(column(schema.GRADIENTS, "phi", INF), "figures", marks=pytest.mark.slow),
        pytest.param(column(schema.PREDICTIONS, "predicted", INF), "figures", marks=pytest.mark.slow),
    ],
)
def test_pages_figures_and_exports_of_odd_runs(
    spoil: Spoil, command: str, made: Path, here: Path, analysed: Command
) -> None:
    run = copied(made, here / "outputs")
    spoil(run)
    before = entries(here)
    analysed(command, "outputs/demo", "--out", str(here.parent / "written" / "to")).check(0)
    assert entries(here) == before
    assert os.listdir(here.parent) in (["here", "written"], ["written", "here"])
    if command == "export":
        table = (here.parent / "written" / "to" / "options.csv").read_text()
        assert all(cell in table for cell in (",'=1+1,", ",'@x,", ",-1.0,"))


SEARCHES: dict[str, tuple[dict[str, Any], str]] = {
    "good": ({}, ""),
    "formula": ({"metric": r"valid_$\frac$", "space": {"$x$": {"choices": [r"$\frac$"]}}}, ""),
    "huge": ({"values": [1e308, -1e308]}, ""),
    "columns": ({"space": {"value": {"choices": ["a"]}, "trial": {"low": 0, "high": 1}}}, ""),
    "nul": ({"runs": ["a\0b"]}, r"trials.0.runs (=a\x00b) must be text"),
    "endless": ({"space": {"lr": {}}}, "space.lr (=0 to 0) must be"),
    "\udcff": ({}, r"\udcff/trials.json: search (=\udcff) must be the name of a folder"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "figures"])
def test_odd_searches_are_named_and_the_rest_is_read(command: str, made: Path, here: Path, analysed: Command) -> None:
    run = copied(made, here / "outputs")
    for name, (odd, _) in SEARCHES.items():
        search(run, name, **odd)
    answer = analysed(command, "outputs/demo", "--out", "written")
    answer.check(0, *(words for _, words in SEARCHES.values() if words))
    written = [path.name for path in here.glob("written*/*.png")]
    assert command == "report" or {"trials_good.png", "trials_formula.png", "trials_columns.png"} < {*written}
    with pytest.warns(RunsWarning, match="3 left out"):
        assert {*load_trials(here / "outputs")["search"]} == {"good", "formula", "huge", "columns"}


STATUSES = "status.parquet"
LONG = "x" * 8_000_000
# What is spoiled of a compacted folder, and words of the answer.
COMPACTED: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "a state that is none": (added(STATUSES, "state", "zzz"), ("status.parquet: run", "state (=zzz) must be one of")),
    "a state that is a list": (added(STATUSES, "state", ["zzz"]), ("(=['zzz']) must be one of", "state unknown")),
    "a directory": (added(STATUSES, "directory", "/etc"), ()),
    "a stamp": (added(STATUSES, "stamp", 1), ()),
    "a text for a number": (added(STATUSES, "epoch", "x"), ()),
    "a number for a text": (added(STATUSES, "why", 5), ()),
    "times out of range": (added(STATUSES, "heartbeat", 1e300), ()),
    "control characters": (added(STATUSES, "why", CONTROL), ()),
    "a date out of range": (added(STATUSES, "started", pa.scalar(2**62, pa.timestamp("us"))), ("states unknown",)),
    "states of nobody": (added(STATUSES, schema.ID, None), ("experiment_id is null, must be string", "states unknown")),
    "an unreadable status": (replaced(STATUSES, content(b"PAR1")), ("status.parquet", "states unknown")),
    "a status that is a folder": (replaced(STATUSES, folder), ("is a folder", "states unknown")),
    "tags that are no text": (added(schema.OPTIONS, "tags", 5), ("tags (=5) must be a text", "run skipped")),
    "an id that leads elsewhere": (added(schema.OPTIONS, schema.ID, "../x"), ("(=../x)", "run skipped")),
    "options of a date out of range": (
        added(schema.OPTIONS, "model", pa.scalar(2**62, pa.timestamp("us"))),
        ("options.parquet: date value out of range; run skipped",),
    ),
    "a metric with control characters": (column(schema.METRICS, "metric", f"valid_{CONTROL}"), ()),
    "an endless epoch": (column(schema.METRICS, "epoch", INF), ("column epoch has inf", "file skipped")),
    "a long text in few bytes": (added(schema.OPTIONS, "model", LONG), ("bytes when decoded", "run skipped")),
    "a long text in lists": (added(schema.OPTIONS, "model", [LONG]), ("bytes when decoded", "run skipped")),
    "a long text in bytes": (added(schema.OPTIONS, "model", LONG.encode()), ("bytes when decoded", "run skipped")),
    "a long list": (added(schema.OPTIONS, "model", [0] * 1_000_000), ("bytes when decoded", "run skipped")),
    "a long state": (added(STATUSES, "host", LONG), ("bytes when decoded", "states unknown")),
    "a long metric": (added(schema.METRICS, "metric", LONG[:500_000]), ("bytes when decoded", "file skipped")),
    "many rows in few bytes": (repeated(schema.METRICS, 500_000), ("bytes when decoded", "file skipped")),
}


@pytest.fixture
def compacted(made: Path, here: Path) -> Path:
    """A compacted folder of two runs, beside the directory of one of them."""
    run = copied(made, here / "outputs")
    compact(Results(here / "outputs"), here / "outputs" / "compact")
    shutil.rmtree(run)
    return here / "outputs" / "compact"


@pytest.mark.parametrize(
    ("case", "command"),
    [
        *((case, "table") for case in COMPACTED),
        *(
            pytest.param(case, "report", marks=pytest.mark.slow)
            for case in ("a state that is none", "times out of range", "control characters")
        ),
    ],
)
def test_an_odd_compacted_folder_is_named_and_the_rest_is_read(
    case: str, command: str, compacted: Path, here: Path, analysed: Command
) -> None:
    spoil, words = COMPACTED[case]
    spoil(compacted)
    before = entries(here)
    answer = analysed(command, "outputs", *(["--out", "../report.html"] if command == "report" else []))
    answer.check(0, *words)
    assert entries(here) == before
    assert command != "table" or "copy_fixed" in answer.out


@pytest.mark.parametrize("link", ["export", "report.html", "figures", "compact"])
def test_a_link_among_the_runs_is_not_written_to(link: str, made: Path, here: Path, analysed: Command) -> None:
    copied(made, here / "outputs")
    (here / "elsewhere").mkdir()
    (here / "outputs" / "demo" / link).symlink_to(here / "elsewhere")
    command = link.removesuffix(".html")
    analysed(command, "outputs/demo").check(1, f"outputs/demo/{link}: is a link; say where to write with --")
    assert not any((here / "elsewhere").iterdir())


def test_a_link_within_an_earlier_export_is_not_written_through(made: Path, here: Path, analysed: Command) -> None:
    copied(made, here / "outputs")
    (here / "elsewhere").mkdir()
    analysed("export", "outputs/demo").check(0)
    events = here / "outputs" / "demo" / "export" / "tensorboard" / "demo"
    events.rename(here / "kept")
    events.symlink_to(here / "elsewhere")
    analysed("export", "outputs/demo").check(1, "a link leads out of")
    assert not any((here / "elsewhere").iterdir())


def linked(top: Path) -> None:
    """A link to runs that are elsewhere."""
    shutil.copytree(top / "demo", top.parent / "elsewhere")
    (top / "linked").symlink_to(top.parent / "elsewhere")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda top: (top / "self").symlink_to("self"),
            ("outputs/self: is a link that leads to itself",),
        ),
        (lambda top: (top / "gone").symlink_to("nowhere"), ("outputs/gone: is a link to nowhere; link skipped",)),
        (lambda top: (top / "again").symlink_to("."), ("outputs/again: is a link to ", "and links are not followed")),
        (lambda top: linked(top), ("outputs/linked: is a link to ", "elsewhere, and links are not followed")),
        (lambda top: Path(os.fsdecode(bytes(top / "demo") + b"/\xff")).mkdir(), (r"\udcff: its name is no UTF-8",)),
        (lambda top: (top / "demo" / "a\nfinished  all runs").mkdir(), (r"a\nfinished  all runs: its name is",)),
        (lambda top: os.mkfifo(top / "demo" / "pipe"), ()),
        (lambda top: (top / "demo" / "\x1b[2J").mkdir(), ()),
    ],
)
def test_one_entry_that_cannot_be_followed_hides_nothing(
    make: Callable[[Path], object], words: tuple[str, ...], made: Path, here: Path, analysed: Command
) -> None:
    copied(made, here / "outputs")
    make(here / "outputs")
    for command in ALL:
        answer = analysed(command, "outputs")
        answer.check(0, *words)
        assert all(answer.err.count(word) == 1 for word in words)
        assert command in ("failures", "compact") or "2" in answer.out


def test_the_library_names_what_it_leaves_out_in_escapes(made: Path, here: Path) -> None:
    """Python itself prints warnings, and errors that nobody catches."""
    copied(made, here / "outputs")
    odd = here / "outputs" / "demo" / "\x1b[2J"
    odd.mkdir()
    (odd / schema.STATUS).write_text("{}")
    shown = r"demo/\\x1b\[2J/options.parquet: no such file"
    with pytest.warns(RunsWarning, match=shown):
        assert len(analysis.load_options(here / "outputs")) == 2
    with pytest.raises(AnalysisError, match=shown):
        analysis.load(odd)


def test_a_folder_that_cannot_be_read_says_so(made: Path, here: Path, analysed: Command) -> None:
    copied(made, here / "outputs")
    (here / "outputs" / "theirs").mkdir(mode=0)
    lost, other = here / "lost", here / "other"
    lost.mkdir()
    copied(made, other)
    (sweep,) = (other / schema.SWEEPS).iterdir()
    (here / "outputs" / schema.SWEEPS).chmod(0)
    sweep.chmod(0)
    for command in ALL:
        analysed(command, "outputs")  # imports what it needs, while it may
    before = os.geteuid()
    lost.chmod(0)
    if before == 0:  # whom nothing is forbidden
        for path in (here, *here.parents):
            if path.stat().st_uid == 0 and not path.stat().st_mode & 0o005:
                path.chmod(0o755)
        os.seteuid(65534)
    try:
        answers = [analysed(command, "outputs") for command in ("table", "status", "failures")]
        answers += [analysed(command, "lost") for command in ("table", "status")]
        of_sweep = analysed("status", "other")
        with pytest.warns(RunsWarning, match=r"sweeps: Permission denied; its sweeps skipped"):
            load_trials(here / "outputs")
    finally:
        os.seteuid(before)
        for closed in (lost, here / "outputs" / schema.SWEEPS, sweep):
            closed.chmod(0o755)
    for answer in answers[:3]:
        answer.check(0, "outputs/theirs: Permission denied; folder skipped")
    for answer in answers[1:3]:
        answer.check(0, "outputs/.sweeps: Permission denied; its sweeps skipped")
    of_sweep.check(0, "no sweep recorded", f"{sweep.name}/plan.json: Permission denied; sweep skipped")
    for answer in answers[3:]:
        answer.check(1, "lost: Permission denied; folder skipped")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("probe", "outputs/demo/RUN", "--seed", "-1"), ("--seed (=-1) must be at least 0",)),
        (("probe", "outputs/demo/RUN", "--probes", "100000"), ("probes (=100000) must be at most 1000",)),
        (("report", "outputs/demo", "--out", "x" * 300), ("File name too long",)),
        (("export", "outputs/demo", "--out", "x" * 300), ("File name too long",)),
        (("table", "\x1b[2J"), (r"\x1b[2J: does not exist",)),
        (("table", "\udcff"), ("is no UTF-8",)),
        (("table", "self"), ("self: is a link that leads to itself",)),
        (("status", "gone"), ("gone: is a link to nowhere",)),
        (("table", "outputs/demo", "--where", "\x1b[2J=1"), (r"where (=\x1b[2J)",)),
    ],
)
def test_odd_arguments_are_refused_in_a_line(
    arguments: tuple[str, ...], words: tuple[str, ...], made: Path, here: Path, analysed: Command
) -> None:
    run = copied(made, here / "outputs")
    (here / "self").symlink_to("self")
    (here / "gone").symlink_to("nowhere")
    before = entries(here)
    answer = analysed(*(argument.replace("RUN", run.name) for argument in arguments))
    answer.check(1, *words)
    assert len(answer.err.splitlines()) == 1
    assert {*entries(here)} == {*before}
