"""From checked jobs to their runs: what a launcher calls for each job, and the launcher of this machine."""

from __future__ import annotations

import re
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import TextIO

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from atbptt import schema
from atbptt.components import SUPPLIED
from atbptt.composing import Command, composer
from atbptt.config import Settings, validated
from atbptt.devices import available_cores
from atbptt.errors import ConfigError, DataWarning
from atbptt.experiment import run
from atbptt.interruption import StoppedError
from atbptt.isolation import Outcome, RunProcess
from atbptt.planning import Job
from atbptt.provenance import Origin
from atbptt.runs import BusyError, RunDirectory
from atbptt.sweeps import planned

POLL_SECONDS = 0.5
GRACE_SECONDS = 120.0  # for runs to store a checkpoint and end
TRIES = 3  # of a run that could not be started, or that an orphan of the same sweep still held
OF_HYDRA = re.compile(r"[+~]*hydra[./@]")
IN_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

# The end of a terminal's or a scheduler's session is a Ctrl-C: what runs is ended and can be continued.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def job(config: DictConfig) -> None:
    """One job of any of Hydra's launchers, in a process of its own; how it ends, its run's directory tells.

    With `hydra/launcher=basic` it runs in this very process, for a debugger.
    """
    hydra = HydraConfig.get()
    number = 0 if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    found = planned(number)
    if found is None:  # the plan is on a disk that this machine does not see
        found = validated(OmegaConf.to_container(config, resolve=True)), Origin()  # type: ignore[arg-type]
    if hydra.launcher._target_ != IN_PROCESS:
        RunProcess(*found).wait()
        return
    warnings.showwarning = show_warning
    try:
        run(*found)
    except StoppedError as error:
        raise KeyboardInterrupt from error  # the jobs to come are not for now either
    except ConfigError as error:  # what could be built when the sweep began cannot be any more
        directory = RunDirectory(found[0])
        directory.make()
        directory.fail(error)
    except (BusyError, Exception):
        return  # the run's directory tells


class LocalLauncher(Launcher):
    """Runs jobs side by side on this machine, each in a process of its own (see `atbptt.isolation`).

    Arguments:
        n_jobs: as many at once; -1 for one a core.

    Attributes:
        told: by the job's number, how it ended.
        say: shows a line to whoever launched.
        ending: whether it is having its runs end.
    """

    def __init__(self, n_jobs: int) -> None:
        self.n_jobs = available_cores() if n_jobs == -1 else n_jobs
        self.told: dict[int, Outcome] = {}
        self.say: Callable[[str], object] = print
        self.ending = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing of Hydra's is needed: the plan has each job's config."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs of the plan with these numbers.

        Raises:
            KeyboardInterrupt: a signal told this process to end; all runs have ended, with a checkpoint.
        """
        waiting = deque(range(initial_job_idx, initial_job_idx + len(job_overrides)))
        running: dict[int, RunProcess] = {}
        tries: Counter[int] = Counter()
        with _noting() as signals:
            while running or (waiting and not signals):
                while waiting and len(running) < self.n_jobs and not signals:
                    number = waiting.popleft()
                    tries[number] += 1
                    try:
                        running[number] = self._start(number)
                    except OSError as error:
                        self.told[number] = Outcome(schema.FAILED, f"could not be started: {error}")
                        if tries[number] < TRIES:
                            waiting.append(number)
                        time.sleep(POLL_SECONDS)
                connection.wait([h for process in running.values() for h in process.handles], timeout=POLL_SECONDS)
                for number in [number for number, process in running.items() if process.ended()]:
                    process = running.pop(number)
                    assert process.outcome is not None
                    self.told[number] = process.outcome
                    if tries[number] < TRIES and process.superseded():
                        waiting.append(number)
                if signals:
                    self._end(list(running.values()), signals)
        if signals:
            raise KeyboardInterrupt
        return []

    def _start(self, number: int) -> RunProcess:
        found = planned(number)
        if found is None:
            raise FileNotFoundError("the sweep's plan cannot be read any more")
        return RunProcess(*found)

    def _end(self, running: list[RunProcess], signals: list[float]) -> None:
        """Have the runs end, once more each time this is called; kill them at a second signal, or after a while."""
        kill = len(signals) > 1 or time.monotonic() - signals[0] > GRACE_SECONDS
        if running and not self.ending:
            self.ending = True
            self.say(f"ending {len(running)} runs, each with a checkpoint; once more kills them")
        for process in running:
            if kill:
                process.kill()
            else:
                process.end()
        time.sleep(POLL_SECONDS if running else 0)


@contextmanager
def prepared_launcher(command: Command, folder: Path) -> Iterator[tuple[Launcher, str]]:
    """The launcher that a command line asks for, ready to launch, and the composed config of the sweep as YAML.

    Arguments:
        command: the command line, found right before.
        folder: the sweep's.
    """
    # Hydra composes each job's config anew where the job runs: it must find the folder among the overrides.
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    overrides = [*command.overrides, f"hydra.sweep.dir='{quoted}'"]
    with composer(command.config_dir, command.extra) as hydra:
        config = hydra.compose_config(command.name, overrides, RunMode.MULTIRUN, with_log_configuration=False)
        text = OmegaConf.to_yaml(config)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config))
        plugins = Plugins.instance()
        if plugins.is_in_toplevel_plugins_module(config.hydra.launcher._target_):
            launcher = plugins.instantiate_launcher(hydra_context=context, task_function=job, config=config)
        else:  # ours
            launcher = instantiate(config.hydra.launcher)
            launcher.setup(hydra_context=context, task_function=job, config=config)
        yield launcher, text


def modules_of(runs: Iterable[Settings]) -> list[str]:
    """The modules of the classes that runs are made of, and what launched them."""
    targets = dict.fromkeys(run.component(group).target for run in runs for group in SUPPLIED)
    return [__name__, *dict.fromkeys(target.rpartition(".")[0] for target in targets)]


def launch(launcher: Launcher, jobs: Sequence[Job]) -> None:
    """Launch the jobs; returns when all have ended."""
    # Hydra's own options are the sweep's; a launcher has them from its config.
    launcher.launch([[o for o in job.overrides if not OF_HYDRA.match(o)] for job in jobs], initial_job_idx=0)


@contextmanager
def _noting() -> Iterator[list[float]]:
    """Within, signals that end a session are noted, each with its time (s, monotonic), instead of raising errors.

    One that is ignored, as by `nohup` or in a shell's background jobs, stays so.
    """
    came: list[float] = []
    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: came.append(time.monotonic())) for number in heeded}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What concerns the user's data in one line; any other warning with its place in the code."""
    told = warnings.formatwarning(message, category, filename, lineno, line)
    print(f"warning: {message}" if issubclass(category, DataWarning) else told.rstrip(), file=file or sys.stderr)
