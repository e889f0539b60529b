"""A search: trials whose values Optuna chooses by the results of those before, run batch by batch.

Optuna keeps nothing between trials: each is asked of a study made anew from the record, with a seed of its own. What is
chosen depends on the trial's number and the results so far alone, so a search that is killed and continued is that of
an undisturbed one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pkgutil
import re
import shlex
import statistics
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atbptt import config, runs, training
from atbptt.errors import ConfigError, needs_extra, require
from atbptt.runs import Dimension, Job, SearchRecord, Trial, Value, schema
from atbptt.sweeps.command import prepare, preview, print_skipped, run, settled, store_notes
from atbptt.sweeps.launching import IN_PROCESS
from atbptt.sweeps.planning import (
    AT_ONCE,
    NOTES,
    ON_A_CLUSTER,
    Composed,
    Plan,
    check_launcher,
    compose_jobs,
    jobs_of,
    plan,
    task_of,
)
from atbptt.sweeps.process import Outcome
from atbptt.sweeps.space import Space
from atbptt.system import PROGRAM, Console, LeftRunningError, LockedError, available_cores, hold, made_folder, program

if TYPE_CHECKING:
    from atbptt.config import Settings
    from atbptt.datasets import Task

try:
    import optuna
except ModuleNotFoundError as missing:
    raise ConfigError("hydra/sweeper", f"(=optuna) {needs_extra('search', missing)}") from missing

# Settings that change no result, and what is no choice of the trials: those that differ in them cannot be compared.
NOT_SEARCHED = (*config.NOTED, *runs.BUDGET, "name", "output_dir", "monitor", "seed", "init", "device")
BESIDES = re.compile(rf"{NOTES.pattern}|[+~]*hydra[/.](sweeper|launcher)\b")  # overrides of no single run
DIVERGED = "DivergedError: "  # how the reason begins why a diverged run failed
OPEN = (schema.RUNNING, schema.INTERRUPTED)  # states of a run whose trial is not over
STATES = {
    schema.FINISHED: optuna.trial.TrialState.COMPLETE,
    schema.FAILED: optuna.trial.TrialState.FAIL,
    runs.WAITING: optuna.trial.TrialState.RUNNING,
}


def search(composed: Composed, console: Console, errors: Console) -> int:
    """Continue the search of a command line, or show with `preview=true` how it stands; the exit code."""
    assert composed.space is not None
    if composed.command.rerun:
        raise ConfigError("rerun", "(=true) is for sweeps: begin a search anew with another hydra.sweeper.study_name")
    study = Study(composed, composed.space)
    # Runs to come may need what those of finished corners do.
    found = plan(composed, lambda corners: prepare(replace(corners, ahead=corners.jobs)), study.tasks)
    for remark in found.remarks:
        console.print(remark)
    if composed.command.preview:
        study.show(console)
        return 0
    with study.locked():
        while batch := study.next_batch():
            planned = study.plan(batch)
            check_launcher(study.launcher, planned.ahead, preview=False)
            console.print(study.progress())
            runs.write_search(study.folder, study.record)
            print_skipped(planned, console)
            sweep, began = "", time.time()
            outcomes: dict[int, Outcome] = {}
            if planned.ahead:  # with the runs of earlier trials: the status of this launch is that of the search
                sweep, outcomes = run(replace(planned, jobs=study.plan(study.trials).jobs), console)
            by_path = {job.directory.path: outcomes.get(number) for number, job in enumerate(planned.ahead)}
            results = [study.result(trial, by_path, sweep, began) for trial in batch]
            for trial in results:
                if trial.reason is not None:
                    errors.print(f"{trial.state:11}  {label(trial)}: {trial.reason}")
            if why := study.stopped_by(results):
                errors.print(f"error: {why}")
                return 1
            for trial in results:
                study.trials[trial.number] = trial
            runs.write_search(study.folder, study.record)
        console.print(study.progress())
        store_notes(study.plan(study.trials), console, errors)
    return study.report(console)


class Study:
    """The search of a command line, with its record, which is read if there is one (ConfigError)."""

    def __init__(self, composed: Composed, space: Space) -> None:
        self.composed = composed
        self.space = space
        self.options = space.options
        self.launcher = config.launcher_options(composed.shared)
        self.jobs: dict[int, list[Job]] = {}  # of each trial, by its number
        self.refused: dict[int, str] = {}  # why the values of a trial are bad
        self.tasks: dict[str, Task] = {}  # of `plan`: no trial builds the data again
        settings, overrides = composed.settings, composed.batch[0]
        shared = [_shared(each) for each in settings]
        for name in shared[0]:
            if any(each[name] != shared[0][name] for each in shared):
                raise ConfigError(name, "cannot be searched: trials that differ in it cannot be compared")
        with config.as_job(settings[0].model_dump(), config.hydra_of(composed.parts[0], overrides)):
            metric = settings[0].monitor or task_of(settings[0], self.tasks).metric_names[0]
        identity = {
            **space.definition(),
            "corners": [each.experiment_id for each in settings],
            "budget": [settings[0].epochs, settings[0].seconds, *filter(None, [settings[0].patience])],
            "metric": metric,
        }
        definition = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self.name = self.options.study_name or f"search_{definition[:8]}"
        self.folder = Path(settings[0].output_dir).absolute() / schema.SWEEPS / self.name
        self.record = SearchRecord(definition, f"valid_{metric}", sys.argv, self.options.n_trials, space.dimensions)
        self._read()

    def _read(self) -> None:
        try:
            record = runs.read_search(self.folder)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            rule = f"cannot be read ({runs.reason(error)}): delete it, and the search finds its finished runs again"
            raise ConfigError(str(self.folder / schema.TRIALS), rule) from error
        rule = "is another search, of other options, values, budget or code: choose another name"
        known, found = ((each.definition, each.metric, each.space) for each in (self.record, record))
        require(found == known, "hydra.sweeper.study_name", self.name, rule)
        self.record = replace(record, n_trials=self.options.n_trials)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the search's lock, and read its record again (ConfigError if another process holds it).

        A new search that is refused before its first run leaves nothing.
        """
        with contextlib.ExitStack() as held:
            held.enter_context(made_folder(self.folder))
            try:
                held.enter_context(hold(self.folder / schema.LOCK))
            except LockedError as error:
                rule = f"(={self.name}) is being run by another process: wait for it, or choose another name"
                raise ConfigError("hydra.sweeper.study_name", rule) from error
            self._read()
            new = not (self.folder / schema.TRIALS).exists()
            try:
                yield
            except LeftRunningError:  # runs that have not begun are in a queue
                raise
            except Exception:
                if new and not self._begun():
                    for name in (schema.TRIALS, schema.LOCK):
                        (self.folder / name).unlink(missing_ok=True)
                raise

    def _begun(self) -> bool:
        """Whether a trial is over, or one of its runs has begun."""
        return bool(self.record.over) or any(job.directory.begun() for jobs in self.jobs.values() for job in jobs)

    @property
    def trials(self) -> list[Trial]:
        return self.record.trials

    def next_batch(self) -> list[Trial]:
        """The trials of a batch that was not finished, else new ones; none if there are enough."""
        waiting = [trial for trial in self.trials if trial.state == runs.WAITING]
        if waiting:
            return waiting
        first = len(self.trials)
        for number in range(first, min(first + self._batch_size(), self.options.n_trials)):
            self.trials.append(Trial(number, self._ask(number)))
        return self.trials[first:]

    def _batch_size(self) -> int:
        if self.options.n_jobs is not None:
            return self.options.n_jobs
        known = {AT_ONCE: available_cores(), IN_PROCESS: 1}.get(self.launcher["_target_"])
        at_once = known or self.launcher.get("n_jobs", self.launcher.get("array_parallelism"))
        if at_once is None:
            rule = "(=null) must be given: the launcher does not say how many runs it has at once"
            raise ConfigError("hydra.sweeper.n_jobs", rule)
        if at_once == -1:
            device = self.composed.settings[0].device
            at_once = training.parallel_jobs(device.type, device.jobs_per_gpu, device.threads)
        return max(1, at_once // max(1, len(self.space.inits)))

    def _ask(self, number: int) -> dict[str, Value]:
        """The values of the trial of this number."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=self._sampler(number))
        ranges = {key: _distribution(each) for key, each in self.space.dimensions.items()}
        for each in self.trials:
            state, params = STATES[each.state], each.params
            study.add_trial(
                optuna.trial.create_trial(state=state, params=params, distributions=ranges, value=each.value)
            )
        chosen = study.ask(ranges).params
        return {key: each.rounded(chosen[key]) for key, each in self.space.dimensions.items()}

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        """The sampler of the trial of this number."""
        options = {**self.options.sampler}
        make = pkgutil.resolve_name(options.pop("_target_"))
        seed = int(np.random.SeedSequence([options.pop("seed", 0), number]).generate_state(1)[0])
        sampler: optuna.samplers.BaseSampler = make(seed=seed, **options)
        return sampler

    def plan(self, trials: list[Trial]) -> Plan:
        """The runs of some trials, composed and, if they are to come, checked; bad values fail their trial later."""
        for trial in trials:
            if trial.number not in self.jobs:
                self._compose(trial)
        jobs = {job.directory.path: job for trial in trials for job in self.jobs[trial.number]}.values()
        ahead = [job for job in jobs if not job.directory.finished()]
        return Plan([*jobs], ahead, self.composed.command, self.launcher["_target_"] != ON_A_CLUSTER)

    def _compose(self, trial: Trial) -> None:
        known, waiting = self.composed, trial.state == runs.WAITING
        self.jobs[trial.number] = []
        try:
            found = compose_jobs(known.made, self.space.jobs(trial.params), known.shared, self.space.corners())
            jobs = plan(replace(found, space=self.space), tasks=self.tasks).jobs if waiting else jobs_of(found)
        except ConfigError as error:
            self.refused[trial.number] = " ".join(str(error).split())
            return
        for job in jobs:
            name = label(trial) + (f" init={job.settings.init}" if self.space.inits else "")
            self.jobs[trial.number].append(replace(job, label=name))
        trial.runs = [os.path.relpath(job.directory.path.absolute(), self.folder) for job in jobs]

    def result(self, trial: Trial, outcomes: Mapping[Path, Outcome | None], sweep: str, began: float) -> Trial:
        """The trial with what came of its runs in a sweep that began at this unix time.

        Its state is one of `OPEN` if one of them is not over.
        """
        if trial.number in self.refused:
            return replace(trial, state=schema.FAILED, reason=self.refused[trial.number])
        values = []
        for directory in (job.directory for job in self.jobs[trial.number]):
            path, status = directory.path, runs.read_run(directory.path)
            if not directory.finished():
                if status.state == schema.RUNNING or directory.busy():
                    state, reason = schema.RUNNING, f"by process {status.pid} on {status.host}"
                else:
                    state, reason = settled(directory, status, outcomes.get(path), sweep, began)
                return replace(trial, state=state, reason=f"{reason} ({path})")
            value = runs.best_value(path, self.record.metric, self.jobs[trial.number][0].settings)
            if value is None:
                return replace(trial, state=schema.FAILED, reason=f"{self.record.metric} is never finite ({path})")
            values.append(value)
        return replace(trial, state=schema.FINISHED, value=statistics.fmean(values))

    def stopped_by(self, results: list[Trial]) -> str | None:
        """Why the search stops at these results of a batch, which the same command then does again."""
        if any(trial.state in OPEN for trial in results):
            return f"{self.name} stops, since a trial is not over: the same command continues it"
        so_far = (*self.trials[: results[0].number], *results)
        failed = [t for t in so_far if t.reason and not t.reason.startswith(DIVERGED)]
        if len(failed) <= self.options.max_failure_rate * len(so_far):
            return None
        rule = "the same command retries the last ones; hydra.sweeper.max_failure_rate allows more"
        return f"{self.name} stops, since {len(failed)} of {len(so_far)} trials failed: {rule}"

    def progress(self) -> str:
        """`8 of 20 trials, 1 failed; best valid_ppl 1.02: trial 5: lr=3.1`."""
        over, failed = len(self.record.over), self.record.failed
        text = f"{self.name}: {over} of {max(over, self.options.n_trials)} trials" + f", {failed} failed" * bool(failed)
        best = self.record.best
        return text if best is None else f"{text}; best {self.record.metric} {best.value:.4g}: {label(best)}"

    def show(self, console: Console) -> None:
        """Print the progress, the space and the runs of the next batch."""
        console.print(self.progress())
        for key, each in self.space.dimensions.items():
            console.print(f"  {key}: {each}")
        if batch := self.next_batch():
            planned = self.plan(batch)
            check_launcher(self.launcher, planned.ahead, preview=True)
            preview(planned, console)

    def report(self, console: Console) -> int:
        """Print the command that repeats the best trial, and where the runs are; the exit code."""
        best, command = self.record.best, self.composed.command
        if best is not None and best.number not in self.refused:
            overrides = self.jobs[best.number][0].overrides  # without options that count for other choices only
            given = [o for o in overrides if o not in self.space.inits and not BESIDES.match(o)]
            inits = [f"init={','.join(o.partition('=')[2] for o in self.space.inits)}"] if self.space.inits else []
            flags = ["-m"] * bool(inits) + [f"--config-dir={command.extra}"] * (command.extra is not None)
            flags += [f"--config-path={command.config_path}"] * (command.config_path is not None)
            flags += [f"--config-name={command.name}"] * (command.name != config.CONFIG_NAME)
            typed = program("launch").split() if sys.argv[0] == PROGRAM else ["python", sys.argv[0]]
            console.print(f"once more: {shlex.join([*typed, *flags, *given, *inits])}")
        settings = self.composed.settings[0]
        place = shlex.quote(str(Path(settings.output_dir) / settings.name))
        console.print(f"runs in {place}/, see: {program('report')} {place}")
        return 0 if best is not None else 1


def _shared(settings: Settings) -> dict[str, Any]:
    """What all trials must have in common to be compared."""
    data = {name: value for name, value in settings.dataset.items() if name != "batch_size"}
    return {"dataset": data} | {name: getattr(settings, name) for name in NOT_SEARCHED}


def label(trial: Trial) -> str:
    """`trial 5: lr=3.1 truncation.delta=0.2`."""
    return f"trial {trial.number}: {' '.join(f'{key}={value}' for key, value in trial.params.items())}"


def _distribution(each: Dimension) -> optuna.distributions.BaseDistribution:
    if each.choices:
        return optuna.distributions.CategoricalDistribution(each.choices)
    if isinstance(each.low, int):
        return optuna.distributions.IntDistribution(each.low, int(each.high), each.log, int(each.step or 1))
    return optuna.distributions.FloatDistribution(each.low, each.high, each.log, each.step)
