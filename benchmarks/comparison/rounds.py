"""The runs of a comparison: every lr on a few inits, lr beyond the grid's edge, then the best lr on all inits."""

import math
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO

import pandas as pd

import analysis
from analysis.statistics import COMPLETE, DIVERGED, ID, best_validation, endings
from atbptt.errors import AnalysisError
from atbptt.system import available_cores
from benchmarks.comparison.tasks import RATES, ComparedTask, Options, Setting
from benchmarks.machine import ROOT

OUTPUTS = Path("outputs/comparison")
LOG = OUTPUTS / "log.txt"  # what the commands print
POLL_SECONDS = 0.2

Say = Callable[[str], object]


class RunsMissingError(RuntimeError):
    """A command has not made its runs."""


def run_all(task: ComparedTask, scheme: str, say: Say) -> None:
    """Make the runs of a task under a scheme that are not there yet.

    Raises:
        RunsMissingError: a command did not make its runs.
    """
    settings = task.settings(scheme)
    rates = [[*task.rates] for _ in settings]
    name = run_name(task, scheme)

    def tried(setting: Setting, lr: Sequence[float]) -> list[str]:
        return command(task, scheme, setting, lr, task.choosing, setting.phases[0])

    say(f"{name}: {len(task.rates)} lr of {len(settings)} settings, {task.choosing} init")
    launch([tried(setting, task.rates) for setting in settings])
    while True:
        runs = endings_of(OUTPUTS / name)
        scores = [scores_of(runs, task, each, lr) for each, lr in zip(settings, rates, strict=True)]
        further = [next_rate(found) for found in scores]
        wider = [tried(setting, [lr]) for setting, lr in zip(settings, further, strict=True) if lr is not None]
        if not wider:
            break
        for known, lr in zip(rates, further, strict=True):
            known += [] if lr is None else [lr]
        say(f"{name}: {len(wider)} settings whose best lr is at the edge, at the next one")
        launch(wider)
    say(f"{name}: {task.inits} init of {len(settings)} settings at their best lr")
    inits = {"random": task.inits, "fixed": task.fixed_inits}
    best = zip(settings, map(best_rate, scores), strict=True)
    chosen = [(each, lr, phase) for each, lr in best for phase in each.phases]
    launch([command(task, scheme, each, [lr], inits[phase], phase) for each, lr, phase in chosen])
    runs = endings_of(OUTPUTS / name)
    for each, lr, phase in chosen:
        ended(runs_of(runs, each, phase=phase, lr=lr), each, inits[phase])


def run_name(task: ComparedTask, scheme: str) -> str:
    return f"{task.name}-{scheme}"


def command(
    task: ComparedTask, scheme: str, setting: Setting, rates: Sequence[float], inits: int, phase: str
) -> list[str]:
    """Overrides of `launch.py -m`, for so many inits."""
    swept = {"phase": phase, "lr": ",".join(f"{lr:g}" for lr in rates), "init": f"range({inits})"}
    where = {"name": run_name(task, scheme), "output_dir": OUTPUTS}
    options: Options = {**task.options, "scheme": scheme, **setting.options, **swept, **where}
    return [f"{name}={value}" for name, value in options.items()]


def launch(commands: Iterable[list[str]]) -> None:
    """Run the commands, one on each core, whatever their exit codes: `ended` looks at their runs.

    If anything is raised meanwhile, as by Ctrl-C, the runs store a checkpoint and end.
    """
    ending = threading.Event()
    pool = ThreadPoolExecutor(available_cores())
    try:
        for _ in pool.map(partial(_launch, ending), commands):
            pass
    finally:
        ending.set()
        pool.shutdown(cancel_futures=True)


def _launch(ending: threading.Event, overrides: list[str]) -> None:
    LOG.parent.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, str(ROOT / "launch.py"), "-m", *overrides, "hydra.launcher.n_jobs=1"]
    with LOG.open("a") as log, _started(line, log) as process:
        while process.poll() is None:
            if ending.wait(POLL_SECONDS):
                process.terminate()
                process.wait()


def _started(line: Sequence[str], log: IO[str]) -> subprocess.Popen[bytes]:
    # In a session of its own: a Ctrl-C would reach it from the terminal, too, and a second signal kills its runs.
    return subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def endings_of(folder: Path) -> pd.DataFrame:
    """A row per run: its options, `valid` (its best), `ending`; both NaN before its first evaluation."""
    try:
        frame = analysis.load(folder)
    except AnalysisError as error:
        raise RunsMissingError(f"{error}; {LOG} has what launch.py printed") from error
    ends = endings(frame)[[ID, "ending"]].merge(best_validation(frame)[[ID, "valid"]], on=ID)
    return analysis.load_options(folder).merge(ends, on=ID, how="left")


def ended(runs: pd.DataFrame, setting: Setting, count: int) -> pd.DataFrame:
    """The runs, which must be so many and have ended by themselves (RunsMissingError): complete, or diverged."""
    whole = runs["ending"].isin([COMPLETE, DIVERGED]).sum()
    if whole != count or len(runs) != count:
        rule = f"{whole} of {len(runs)} runs have ended, and should be {count}"
        raise RunsMissingError(f"{dict(setting.options)}: {rule}; {LOG} has what launch.py printed")
    return runs


def runs_of(runs: pd.DataFrame, setting: Setting, **more: object) -> pd.DataFrame:
    """The rows of a frame, which has the options, of one setting."""
    chosen = pd.Series(True, index=runs.index)
    for name, value in {**setting.options, **more}.items():
        if name in runs and value != "false":
            chosen &= (runs[name] == value).fillna(False).astype(bool)
    return runs[chosen]


def scores_of(
    runs: pd.DataFrame, task: ComparedTask, setting: Setting, rates: Iterable[float] | None = None
) -> dict[float, float]:
    """The mean of the best validation at each lr, of the first inits; infinite where one of them diverged.

    `rates` are by default those that there are runs of. RunsMissingError if one has not its runs.
    """
    own = runs_of(runs, setting, phase=setting.phases[0])
    own = own[own["init"] < task.choosing]
    found = {}
    for rate in own["lr"].unique() if rates is None else rates:
        of_rate = ended(own[own["lr"] == rate], setting, task.choosing)
        found[float(rate)] = math.inf if (of_rate["ending"] == DIVERGED).any() else float(of_rate["valid"].mean())
    return found


def best_rate(scores: dict[float, float]) -> float:
    """The lr with the lowest score."""
    return min(sorted(scores), key=lambda lr: scores[lr])


def next_rate(scores: dict[float, float]) -> float | None:
    """The lr beyond the edge of those tried, if the best is there; None if it is not, or `RATES` ends."""
    tried, best = sorted(scores), best_rate(scores)
    if math.isinf(scores[best]) or best == tried[0]:
        return max((lr for lr in RATES if lr < tried[0] * 0.99), default=None)
    return min((lr for lr in RATES if lr > best * 1.01), default=None) if best == tried[-1] else None
