import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import cloudpickle
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from atbptt.config.composing import composer
from atbptt.runs import schema
from atbptt.sweeps import process
from atbptt.sweeps.process import Outcome
from atbptt.sweeps.slurm.jobs import SlurmJob
from atbptt.sweeps.slurm.queue import SlurmError
from atbptt.sweeps.slurm.task import SlurmTask

seen: list[tuple[int, str, float]] = []


def note(config: DictConfig) -> Outcome:
    job = HydraConfig.get().job
    seen.append((job.num, job.id, config.lr))
    return Outcome(schema.FAILED, "StorageError: no") if job.num == 9 else Outcome(schema.FINISHED, "")


def preempted(_: DictConfig) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def task(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmTask]:
    """In a job of Slurm, as far as the environment tells."""
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    with composer(root / "conf") as hydra:
        config = hydra.compose_config("config", ["lr=3"], RunMode.MULTIRUN, with_log_configuration=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    seen.clear()
    monkeypatch.setattr("atbptt.sweeps.slurm.task.planned", Mock())
    yield SlurmTask(note, config, end_seconds=45.0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the job's run was given to end, each time it was told to."""
    times: list[float] = []
    monkeypatch.setattr(process, "end_children", times.append)
    return times


def test_a_job_runs_its_number_as_composed_when_it_was_launched(task: SlurmTask, ended: list[float]) -> None:
    task(7)
    again = pickle.loads(cloudpickle.dumps(task))  # as submitit stores it
    again.task = note
    again(8)
    assert seen == [(7, "12_3", 3.0), (8, "12_3", 3.0)]
    signal.raise_signal(signal.SIGUSR2)
    signal.raise_signal(signal.SIGTERM)  # a signal after the run does not fail the job
    assert ended == []


def test_why_a_run_failed_is_where_the_launching_process_looks(
    task: SlurmTask, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """If the run could not store it."""
    for number in (7, 9):
        task(number)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: StorageError: no\n")
    (tmp_path / "err").write_text(f"{err}srun: the end\n")
    assert SlurmJob("7", tmp_path / "out", tmp_path / "err").complaint(tmp_path) == "error: StorageError: no"


def test_a_job_whose_plan_is_gone_does_not_run_the_config_of_the_sweep(
    task: SlurmTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atbptt.sweeps.slurm.task.planned", lambda *_: None)
    with pytest.raises(FileNotFoundError, match=r"^the plan in .*/\.sweeps cannot be read any more$"):
        task(7)
    assert seen == []


def test_before_the_limit_the_run_ends_and_the_same_job_is_stored_anew(task: SlurmTask, ended: list[float]) -> None:
    delayed = task.checkpoint(7)
    assert ended == [45.0]
    assert (delayed.function, delayed.args) == (task, (7,))
    signal.raise_signal(signal.SIGTERM)  # of the requeueing; this process lives on


@pytest.mark.parametrize("state", ["COMPLETING", "", None, "RUNNING"])
def test_a_job_ends_after_its_run(
    task: SlurmTask, ended: list[float], monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """In its grace time, when Slurm says that it is running, it asks to be requeued."""
    asked: list[int] = []
    signal.signal(signal.SIGUSR2, lambda number, _: asked.append(number))  # submitit's
    state_of = Mock(side_effect=SlurmError("squeue: no") if state is None else [state])
    monkeypatch.setattr("atbptt.sweeps.slurm.task.state_of", state_of)
    task.task = preempted
    with pytest.raises(SystemExit) as left:
        task(7)
    assert left.value.code == 143
    state_of.assert_called_once_with("12_3")
    assert len(ended) == 1
    assert ended[0] > 600  # Slurm decides how long
    assert asked == ([signal.SIGUSR2] if state == "RUNNING" else [])
