"""Each run in a process of its own, so that a crash ends only that run.

The processes are forked, in milliseconds, from one that has imported all they need (Python's fork server, see
`preload`). If the process that started a run dies, the run stores a checkpoint and ends.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import connection, spawn
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from atbptt.config import Settings, as_job
from atbptt.errors import ConfigError, described, show
from atbptt.runs import BusyError, Origin, RunDirectory, schema
from atbptt.system import ENDING, STORING, StoppedError, handled, listening, open_file, open_to_append
from atbptt.training import run

WANTED_VARIABLE = "ATBPTT_PRELOAD"  # JSON for `preload`: sys.path, modules to import, script
# Torch's optimizers and pyarrow import these when they are first used, which takes 2 seconds; joblib registers how its
# workers start processes.
LATE = ("torch._dynamo", "pandas", "pyarrow.pandas_compat", "joblib")
BUSY = "busy"  # an outcome besides the states in schema: another process works on the run
HEEDED = (signal.SIGTERM, signal.SIGINT, *STORING)  # by a run; the launching process heeds a closed terminal
SERVER_LOST = 255  # Python's exit code for a process whose fork server is gone; the process may live on
ORPHAN_SECONDS = 120.0  # for a run to store a checkpoint and end when the process that started it is gone
REAP_SECONDS = 5.0  # between a run's outcome and the end of its process
RESEND_SECONDS = 1.0  # a new process may not listen yet
OUTPUT_BYTES = 10_000  # of a crashed run's output, stored with its failure

_context = multiprocessing.get_context("forkserver")
# A process tells its exit code once: two threads at a time must not ask for it, but a signal handler of one may.
_asking = threading.RLock()
_prepared = False
_started: set[RunProcess] = set()


class Outcome(NamedTuple):
    """How a run's process ended."""

    state: str  # of `schema`, or `BUSY`
    reason: str


def prepare(modules: Iterable[str] = ()) -> None:
    """Start the process that runs are forked from; it imports `modules` in the background.

    Raises a ConfigError if TMPDIR cannot hold its socket, OSError if the system makes no process.
    """
    global _prepared  # a process has one fork server
    wanted = {
        "path": [os.path.abspath(folder) for folder in sys.path],
        "modules": [*LATE, *modules],
        "script": spawn.get_preparation_data("preload").get("init_main_from_path"),
    }
    os.environ[WANTED_VARIABLE] = json.dumps(wanted)
    here = str(Path(__file__).parents[2])  # the package need not be installed
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([*paths, here])
    _context.set_forkserver_preload(["atbptt.sweeps.preload"])
    _check_socket()
    # The server inherits ignored signals; `preload` ignores them, too.
    try:
        with handled(dict.fromkeys((*ENDING, *STORING), signal.SIG_IGN)):
            ensure_running()
    except OSError as error:
        raise ChildProcessError(f"the process that runs are forked from cannot be started: {error}") from error
    _prepared = True


def _check_socket() -> None:
    """Raise a ConfigError if the folder of temporary files cannot hold the socket that the server listens to."""
    with socket.socket(socket.AF_UNIX) as tried:
        try:
            tried.bind(address := os.path.join(get_temp_dir(), f"listener-{os.getpid():08}"))  # as long as Python's
            os.unlink(address)
        except OSError as error:  # AF_UNIX takes about 100 characters
            rule = f"cannot hold the socket of the process that runs are forked from: {error}; set it to another folder"
            raise ConfigError("TMPDIR", f"(={show(os.environ.get('TMPDIR', ''))}) {rule}") from error


class RunProcess:
    """A run in a process of its own, started at once (OSError if the system makes no process)."""

    def __init__(self, settings: Settings, origin: Origin, hydra: Mapping[str, Any] | None = None) -> None:
        """Start the run; `hydra` is Hydra's part of its config, if it is a job of Hydra's."""
        self.directory = RunDirectory(settings, origin.experiment_id)
        self.origin = origin
        self.outcome: Outcome | None = None
        self._killed: str | None = None
        output = self.directory.path / schema.OUTPUT
        anew = origin.rerun or not output.exists()
        self._printed = 0 if anew else output.stat().st_size  # by earlier attempts
        self._before = self.directory.status().get("started")  # of the attempt before
        self._kills = _out_of_memory_kills()
        if not _prepared:
            prepare()
        self._reader, writer = _context.Pipe(duplex=False)
        self._process = _context.Process(target=_work, args=(settings, origin, hydra, writer))
        try:
            with _asking:  # it asks for the exit codes of all
                self._process.start()
        except EOFError as error:  # the server was killed meanwhile; the next start makes a new one
            raise ChildProcessError("the process that runs are forked from was killed") from error
        finally:
            writer.close()  # the process's end of it closes when it ends
        _started.add(self)

    @property
    def handles(self) -> list[Connection | int]:
        """Objects for `multiprocessing.connection.wait`; one is ready when the process may have ended."""
        if self._exitcode == SERVER_LOST:
            return [self._reader]
        return [self._reader, self._process.sentinel]

    def over(self) -> bool:
        """Whether the process has ended, or has sent its outcome."""
        if self.outcome is not None or not connection.wait(self.handles, timeout=0):
            return self.outcome is not None
        return self._reader.poll() or self._exitcode != SERVER_LOST

    def ended(self) -> Outcome | None:
        """The outcome if the process has ended; then also marks a failure in the run's directory."""
        if self.outcome is None and self.over():
            self.outcome = self._settle()
            self._reader.close()
            _started.discard(self)
        return self.outcome

    def wait(self) -> Outcome:
        """Wait for the end of the process; an exception meanwhile, as by Ctrl-C, also ends the run."""
        try:
            while (outcome := self.ended()) is None:
                connection.wait(self.handles, timeout=1.0)
        except BaseException:
            self.send(signal.SIGTERM)
            raise
        return outcome

    def superseded(self) -> bool:
        """Whether the run was held by another process of the same sweep, left over from a start that went wrong."""
        return (
            self.outcome is not None
            and self.outcome.state == BUSY
            and self.origin.sweep is not None
            and self.directory.status().get("sweep") == self.origin.sweep
        )

    def kill(self, reason: str) -> None:
        """Kill the process and all that it started; the run is marked failed with this reason."""
        self._killed = reason
        self.send(signal.SIGKILL, group=True)

    def send(self, number: signal.Signals, group: bool = False) -> None:
        """Send a signal: SIGTERM has the run store a checkpoint and end, SIGUSR1 store one and go on."""
        pid = self._process.pid
        if pid is not None and self.outcome is None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(pid, number)

    @property
    def _exitcode(self) -> int | None:
        with _asking:
            return self._process.exitcode

    def _settle(self) -> Outcome:
        try:
            outcome: Outcome | None = Outcome(*self._reader.recv()) if self._reader.poll() else None
        except (EOFError, OSError):
            outcome = None
        if self._exitcode is None:
            connection.wait([self._process.sentinel], REAP_SECONDS)
        self.send(signal.SIGKILL, group=True)  # a process that does not end, and all that the run left behind
        if outcome is None:
            outcome = Outcome(schema.FAILED, self._killed or self._cause())
        if outcome.state == schema.FAILED:
            self.directory.bury(outcome.reason, self._output(), sweep=self.origin.sweep, started=self._before)
        return outcome

    def _cause(self) -> str:
        """Why the process ended without sending an outcome."""
        code = self._exitcode
        if code is None or code == SERVER_LOST:
            return "its process was killed"
        if code >= 0:
            return f"its process ended with exit code {code} before the run was finished"
        name = signal.Signals(-code).name
        if -code == signal.SIGKILL:
            if _out_of_memory_kills() > self._kills:
                return f"out of memory: the system killed its process ({name})"
            return f"its process was killed ({name}); the system does that too when memory runs out"
        return f"its process crashed in native code ({name})"

    def _output(self) -> str:
        """The end of what this process printed, with Python's stack if it crashed."""
        path = self.directory.path / schema.OUTPUT
        try:
            with open_file(path) as file:
                file.seek(max(self._printed, path.stat().st_size - OUTPUT_BYTES))
                return file.read().decode(errors="replace").rstrip()
        except OSError:
            return ""


def end_children(timeout_s: float) -> None:
    """Have all runs that this process started store a checkpoint and end; kill those that do not in time.

    A signal handler may call it during `RunProcess.wait`, which then returns the outcome.
    """
    deadline = time.monotonic() + timeout_s
    while (left := [process for process in _started if not process.over()]) and time.monotonic() < deadline:
        for process in left:
            process.send(signal.SIGTERM)
        connection.wait([handle for process in left for handle in process.handles], timeout=RESEND_SECONDS)
    for process in left:
        process.kill(f"killed, since it had not stored a checkpoint within {timeout_s:g} s")


@contextlib.contextmanager
def hydra_job(settings: Settings, part: Mapping[str, Any]) -> Iterator[None]:
    """Within, this process is a job of Hydra's, with `HydraConfig` and the variables of `hydra.job.env_set`.

    `part` is Hydra's part of its config. `on_job_start` and `on_job_end` are called before and after, of callbacks made
    here; Hydra warns if one fails.
    """
    with as_job(settings.model_dump(), part) as config:
        job = JobReturn(
            overrides=list(part["overrides"]["task"]),
            cfg=OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]),
            hydra_cfg=OmegaConf.masked_copy(config, ["hydra"]),
            working_dir=os.getcwd(),
            task_name=part["job"]["name"],
        )
        callbacks = Callbacks(config)
        callbacks.on_job_start(config=config, task_function=run)
        try:
            yield
            job.status = JobStatus.COMPLETED
        except BaseException as error:
            job.return_value, job.status = error, JobStatus.FAILED
            raise
        finally:
            callbacks.on_job_end(config=config, job_return=job)


def _work(settings: Settings, origin: Origin, hydra: Mapping[str, Any] | None, writer: Connection) -> None:
    # A group of its own: Ctrl-C in the terminal reaches only the launching process, which ends the runs, and what a
    # run starts can be killed with it.
    os.setpgid(0, 0)
    for number in HEEDED:
        signal.signal(number, signal.SIG_DFL)  # `preload` ignores them
    with listening() as signals:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        try:
            directory = RunDirectory(settings, origin.experiment_id)
            directory.make()
            _redirect_output(directory.path / schema.OUTPUT)
            with contextlib.nullcontext() if hydra is None else hydra_job(settings, hydra):
                run(settings, origin, signals)
            outcome = Outcome(schema.FINISHED, "")
        except BusyError as error:
            outcome = Outcome(BUSY, str(error))
        except StoppedError as error:
            outcome = Outcome(schema.INTERRUPTED, str(error))
        except BaseException as error:  # stored by run
            outcome = Outcome(schema.FAILED, described(error))
        with contextlib.suppress(OSError):
            writer.send(tuple(outcome))
        # End at once: no user's thread or library's destructor can delay it or change the exit code.
        for text in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                text.flush()
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os.killpg(0, signal.SIGKILL)  # what the run started: no other process is left to do it
        os._exit(0)


def _redirect_output(path: Path) -> None:
    """Append all output of this process to a file, also that of native code."""
    descriptor = open_to_append(path)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    faulthandler.enable()  # prints Python's stack when native code crashes


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os.killpg(0, signal.SIGKILL)


def _out_of_memory_kills() -> int:
    try:
        lines = Path("/proc/vmstat").read_text().split("\n")
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    except (OSError, StopIteration, ValueError):
        return 0
