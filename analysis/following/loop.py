"""`python -m analysis follow`: runs are read as they change, and a tracker is brought up to date."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from atbptt.errors import AnalysisError, complain, described, needs_extra, require_choice
from atbptt.monitor import Reader
from atbptt.runs import WAITING
from atbptt.runs.schema import METRICS, OPTIONS, RUNNING
from atbptt.system import check_inside, print_text

from ..loading import Results
from .runs import Run, Tracker, labels_of, snapshots

TRACKERS = ("tensorboard", "mlflow", "wandb")
LONGEST_PAUSE = 300.0  # seconds between attempts to reach a tracker
ERROR_LENGTH = 240  # characters shown of a tracker's error


def connect(to: str, into: str | None, folder: Path) -> Tracker:
    """The tracker `to`, one of `TRACKERS`.

    Arguments:
        to: its name.
        into: a folder, for MLflow the address of a store; None for `tensorboard` in `folder`, or the default of the
            tracker's own settings.
        folder: of the runs.

    Raises:
        ConfigError: another name, or an address that the tracker does not understand.
        AnalysisError: its package is not installed.
        StorageError: a folder that cannot be written.
    """
    require_choice("to", to, TRACKERS)
    with installed(to):
        if to == "mlflow":
            from .mlflow import MLflow

            return MLflow(into)
        if to == "wandb":
            from .wandb import WandB

            return WandB(Path(into or os.environ.get("WANDB_DIR", ".")))
        from .tensorboard import TensorBoard

        default = folder / "tensorboard"
        if not into:
            check_inside(default, folder)
        return TensorBoard(Path(into) if into else default)


@contextmanager
def installed(tracker: str) -> Iterator[None]:
    """Raise an AnalysisError if a package of the tracker is missing inside, with what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise AnalysisError(f"{tracker} {needs_extra(tracker, error)}") from error


def follow(
    paths: Sequence[Path],
    tracker: Tracker,
    every: float = 10.0,
    once: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the runs at and below the paths in a tracker until Ctrl-C, also those that begin later.

    Runs that the tracker refuses, or that do not reach it, are sent again later, after pauses that double up to
    `LONGEST_PAUSE` as long as there are some. Of what cannot be read, a line is printed, and the rest goes on.

    Arguments:
        paths: run directories, or folders with some below them.
        tracker: where to.
        every: seconds between two looks at the runs, positive.
        once: whether to end when everything that is there now has been sent.
        sleep: waits for so many seconds.

    Raises:
        AnalysisError: a path is no folder; with `once`, there are no runs, or the tracker did not take some.
    """
    follower = Follower(paths, tracker)
    pause = waited = every  # for and since the last attempt with runs that failed
    try:
        while True:
            again = waited >= pause
            try:
                sent, failed = follower.look(again)
            except AnalysisError:  # no runs
                if once:
                    raise
                follower.say("no runs yet; waiting for the first")
                sent, failed = 0, ""
            if sent:
                print_text(f"{time.strftime('%H:%M:%S')} evaluations sent: {sent}", flush=True)
            if once and failed:
                raise AnalysisError(f"not everything was sent: {failed}; the same command sends the rest")
            if once:
                return
            if again:
                pause, waited = min(2 * pause, max(every, LONGEST_PAUSE)) if failed else every, 0.0
            sleep(every)
            waited += every
    except KeyboardInterrupt:
        if once:
            raise
    finally:
        tracker.close()


class Follower:
    """Knows what of the runs has been sent, and sends what has changed."""

    def __init__(self, paths: Sequence[Path], tracker: Tracker) -> None:
        self._reader = Reader(paths)
        self._tracker = tracker
        self._sent: dict[Path, object] = {}  # what was seen of a run's files and state when it was last sent
        self._failed: dict[Path, None] = {}  # runs that the tracker did not take
        self._homes: dict[tuple[str, str], Path] = {}  # directory of each run, by experiment and id
        self._said: set[str] = set()

    def look(self, again: bool = True) -> tuple[int, str]:
        """Send what has changed, also of runs that failed before if `again`: evaluations sent, and the last error.

        After two errors in a row the tracker counts as out of reach, and the rest waits for the next look.

        Raises:
            AnalysisError: there are no runs.
        """
        report = self._reader.read()
        for problem in report.problems:
            self.say(problem)
        labels = labels_of(report)
        runs = {run.last.directory: run.last for run in report.runs}
        sent, failed, in_a_row = 0, "", 0
        for directory in sorted(runs, key=self._failed.__contains__):  # what failed comes last
            seen = (_stamp(directory / OPTIONS), _stamp(directory / METRICS), runs[directory].state)
            begun = seen[0] is not None or seen[2] not in (RUNNING, WAITING)
            waits = directory in self._failed and not again
            if not begun or waits or self._sent.get(directory) == seen:
                continue
            try:
                run = self._read(directory, labels)
                sent += self._tracker.record(run) if run is not None else 0
            except Exception as error:  # of the network, a database, a disk: each tracker has kinds of its own
                failed, in_a_row = f"{directory}: {described(error)[:ERROR_LENGTH]}", in_a_row + 1
                if not self._failed:
                    complain(f"warning: {failed}; it is tried again")
                self._failed[directory] = None
                if in_a_row == 2:
                    break
            else:
                in_a_row = 0
                self._sent[directory] = seen
                self._failed.pop(directory, None)
        return sent, failed

    def say(self, problem: str) -> None:
        """Print a warning, unless it was printed before."""
        if problem not in self._said:
            self._said.add(problem)
            complain(f"warning: {problem}")

    def _read(self, directory: Path, labels: dict[Path, str]) -> Run | None:
        """The run; None, after a warning, if it cannot be read or is another's copy."""
        results = Results([directory])
        try:
            run = next(snapshots(results, labels))
        except AnalysisError as error:
            self.say(str(error))
            return None
        for problem in results.problems:
            self.say(problem)
        home = self._homes.setdefault((run.experiment, run.id), directory)
        if home != directory:
            self.say(f"{directory}: experiment_id {run.id} is also in {home}, which is shown; run skipped")
        return None if results.problems or home != directory else run


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes with a file; None without it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
