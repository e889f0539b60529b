"""Runs in Weights & Biases, online or as files to be uploaded later. What it has of a run stands beside its files."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wandb

from atbptt.errors import AnalysisError
from atbptt.runs.schema import FINISHED
from atbptt.system import StorageError, locks, read_json, write_text

from .runs import Run, Sent

STATE, LOCK = "followed", ".lock"  # in W&B's folder: a folder with a file for each run, and in that a lock
# W&B would report this process as the run: its output, its machine, its code.
SILENT: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "disable_code": True}
SILENT |= {"x_disable_stats": True, "x_disable_meta": True}


class WandB:
    """Keeps a project for each experiment, and in it a run for each of ours, whose id is the `experiment_id`.

    Options are the config. `_step` is `step`; panels have the epoch as axis. The summary has the state, since W&B knows
    no interrupted or diverged runs: it counts all but finished ones as failed.

    Arguments:
        folder: W&B makes `wandb/` in it.

    Raises:
        StorageError: the folder cannot be written.
        AnalysisError: another process writes there.
    """

    def __init__(self, folder: Path) -> None:
        self.shown_by = f'files in "{folder / "wandb"}"; of an offline run, `wandb sync` uploads them'
        self._folder = folder
        self._state = folder / "wandb" / STATE
        self._open: dict[tuple[str, str], wandb.Run] = {}  # runs that go on
        self._held = ExitStack()
        try:
            self._state.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(locks.hold(self._state / LOCK))
        except locks.LockedError as error:
            raise AnalysisError(f"{folder}: another process follows runs there") from error
        except OSError as error:
            raise StorageError(f"{self._state} cannot be written: {error.strerror}") from error

    def record(self, run: Run) -> int:
        path = self._state / run.experiment / f"{run.id}.json"
        stored = read_json(path) if path.exists() else {"sent": {}, "shown": None}
        sent = Sent(**stored["sent"])
        attempt, new = sent.missing(run)
        if not new and stored["shown"] == run.digest:
            return 0
        if attempt != sent.attempt:
            self._finish(run, 0)
        shown = self._begun(run, attempt)
        for each in new:
            shown.log(dict(each.values), step=each.step, commit=True)
        shown.notes, shown.tags = run.notes, run.tags
        shown.config.update(dict(run.options), allow_val_change=True)
        shown.summary.update({"state": run.state, "why": run.why})
        path.parent.mkdir(exist_ok=True)
        sent = Sent(attempt, new[-1].step, new[-1].digest) if new else sent
        write_text(path, json.dumps({"sent": asdict(sent), "shown": run.digest}))
        if run.ended:
            self._finish(run, int(run.state != FINISHED))
        return len(new)

    def close(self) -> None:
        for shown in self._open.values():
            shown.finish(exit_code=1)  # W&B hears no more of it until it is followed again
        self._held.close()

    def _begun(self, run: Run, attempt: int) -> wandb.Run:
        key = run.experiment, run.id
        if key not in self._open:
            again = attempt > 1
            self._open[key] = wandb.init(
                project=run.experiment,
                id=f"{run.id}-{attempt}" if again else run.id,
                name=f"{run.title} ({attempt})" if again else run.title,
                dir=self._folder,
                resume="allow",
                reinit="create_new",
                settings=wandb.Settings(**SILENT),
            )
            self._open[key].define_metric("*", step_metric="time/epoch")
        return self._open[key]

    def _finish(self, run: Run, exit_code: int) -> None:
        if shown := self._open.pop((run.experiment, run.id), None):
            shown.finish(exit_code=exit_code)
