"""Compose runs from conf/, check them all, run them: python launch.py -m truncation=adaptive lr=1,10"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, TextIO

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from atbptt.config import validated
from atbptt.devices import parallel_jobs
from atbptt.errors import ConfigError, DataWarning
from atbptt.experiment import run
from atbptt.planning import Job, plan, planned_settings, shared_plan
from atbptt.progress import Watch, result
from atbptt.runs import BusyError, RunDirectory

OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)


TRACEBACK_HINT = "HYDRA_FULL_ERROR=1 shows where"


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    """One job. It never raises: a run that fails says so in its directory and leaves the sweep alone."""
    job = HydraConfig.get().job
    number = 0 if OmegaConf.is_missing(job, "num") else job.num  # missing where there is no sweep
    warnings.showwarning = show_warning  # in a worker too
    settings = planned_settings(number) or validated(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
    try:
        run(settings)
    except BusyError:
        return  # the process that holds the run reports on it
    except ConfigError as error:  # what could be built when the sweep began cannot be any more
        directory = RunDirectory(settings)
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.fail(error)
    except Exception:
        return  # the run's directory tells


def launch() -> int:
    """Plan, run and report; the exit code."""
    console = Console()
    errors = Console(stderr=True)
    warnings.showwarning = show_warning
    try:
        jobs = plan(sys.argv[1:], Path(__file__).parent / "conf")
    except Exception as error:  # a ConfigError; or a user's own class did what none should
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        told = error if isinstance(error, ConfigError) else f"{type(error).__name__}: {error} ({TRACEBACK_HINT})"
        errors.print(f"error: {told}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    if jobs is None:
        main()
        return 0
    finished, ahead = split(jobs)
    for job in finished:
        line = f"skipped   {job.label}  finished before: {result(job.directory.status())} ({job.directory.path})"
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    try:
        if ahead:
            with shared_plan(jobs), Watch(ahead, console):
                main()
    except SystemExit:
        pass  # Hydra has said why, on stderr; what became of each run follows
    except KeyboardInterrupt:
        errors.print("interrupted: the same command continues from the last checkpoints")
        return 130
    return report(jobs, console, errors)


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


def split(jobs: list[Job]) -> tuple[list[Job], list[Job]]:
    """The jobs that have reached their budget, and the others."""
    parted: tuple[list[Job], list[Job]] = ([], [])
    for job in jobs:
        parted[0 if job.directory.finished() else 1].append(job)
    return parted


def report(jobs: list[Job], console: Console, errors: Console) -> int:
    """Where the results are, and what failed; the exit code."""
    for folder in sorted({str(job.directory.path.parent) for job in jobs}):
        console.print(f"runs in {folder}/, see: python -m analysis table {folder}", soft_wrap=True, highlight=False)
    _, ahead = split(jobs)
    code = 0
    for job in ahead:
        status, path = job.directory.status(), job.directory.path
        if job.directory.busy():
            where = f"process {status.get('pid')} on {status.get('host')}"
            console.print(f"running   {job.label}: by {where} ({path})", soft_wrap=True, markup=False)
        else:
            line = f"failed    {job.label}: {reason(status)} ({path})"
            errors.print(line, style="red", markup=False, soft_wrap=True)
            code = 1
    return code


def reason(status: dict[str, Any]) -> str:
    """Why a run is not finished."""
    if status.get("error"):
        return str(status["error"])
    return f"killed at {result(status) or 'its start'}" if status else "never started"


if __name__ == "__main__":
    # A scheduler's or a shell's end of the session is a Ctrl-C: what runs is ended and can be continued.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    sys.exit(launch())
