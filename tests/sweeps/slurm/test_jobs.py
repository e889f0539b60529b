import json
import os
from pathlib import Path
from typing import Any

import pytest

from atbptt.runs import schema
from atbptt.sweeps.slurm.jobs import NAME, SlurmJob, read_jobs, still_queued, write_jobs
from atbptt.sweeps.slurm.queue import QueuedJob
from atbptt.system import locks


def job(sweep: Path, number: str, state: str | None = None) -> SlurmJob:
    return SlurmJob(number, sweep / ".submitit" / f"{number}.out", sweep / ".submitit" / f"{number}.err", state)


def sweep(folder: Path, jobs: dict[str, str], **settings: Any) -> Path:
    """A sweep's folder whose runs, all with the same settings, have these jobs."""
    folder.mkdir(parents=True)
    write_jobs(folder, {name: job(folder, number) for name, number in jobs.items()})
    plan = {"jobs": [{"experiment_id": name, "settings": settings} for name in jobs]}
    (folder / schema.PLAN).write_text(json.dumps(plan))
    return folder


def test_what_is_written_is_read_also_after_the_folder_was_moved(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    jobs = {"abc": job(first, "12_0"), "def": job(first, "7", "TIMEOUT")}
    write_jobs(first, jobs)
    assert read_jobs(first) == jobs
    second = first.rename(tmp_path / "second")
    assert read_jobs(second)["abc"] == job(second, "12_0")


WHOLE = {"job": "1", "stdout": "out", "stderr": "err", "state": None}


@pytest.mark.parametrize(
    "text",
    [
        *(None, "", "[]", "[1]", "{}", '{"abc": 3}', '{"abc": {"job": "1"}}', '{"abc": {'),
        *(json.dumps({"abc": {**WHOLE, "job": number}}) for number in (["1"], 1, "--all", "1\n", "")),
        json.dumps({"abc": {**WHOLE, "stderr": 3}}),
    ],
)
def test_a_record_that_is_missing_or_damaged_has_no_jobs(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / NAME).write_text(text)
    assert read_jobs(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("submitit INFO\nModuleNotFoundError: No module named 'mine'\nsrun: forcing job termination\n\n", "Module"),
        ("srun: got SIGCONT\nsrun: forcing job termination\n", "srun: forcing"),
        ("\n", ""),
        (None, ""),
    ],
)
def test_a_job_complains_of_the_last_error(tmp_path: Path, text: str | None, complaint: str) -> None:
    (tmp_path / ".submitit").mkdir()
    found = job(tmp_path, "7")
    if text is not None:
        found.stderr.write_text(text)
    assert found.complaint(tmp_path).startswith(complaint)
    assert bool(found.complaint(tmp_path)) == bool(complaint)


@pytest.mark.parametrize("place", ["../secret", "{top}/secret", "link", "pipe", "a\0b"])
def test_a_record_of_somebody_else_has_no_other_file_read(tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("error: secret")
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    (folder / NAME).write_text(json.dumps({"abc": {**WHOLE, "stderr": place.format(top=tmp_path)}}))
    assert read_jobs(folder)["abc"].complaint(folder) == ""


def test_the_same_run_is_found_in_the_queue_of_an_earlier_sweep(tmp_path: Path) -> None:
    """Not what is over, asked for in another way, of another run, of the sweep that asks, or elsewhere by Slurm."""
    old = sweep(tmp_path / "1", {"abc": "12_0", "def": "12_1", "ghi": "12_2", "mno": "15"}, epochs=3)
    sweep(tmp_path / "2", {"jkl": "13"}, epochs=4)
    asking = sweep(tmp_path / "3", {"abc": "14_0"}, epochs=3)
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / NAME).write_text("damaged")
    runs = {name: {"epochs": 3, "notes": "new", "tags": ["new"]} for name in ("abc", "def", "jkl", "mno")}
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / schema.PLAN).write_text('{"jobs": [{"experiment_id": "abc", "settings": [1]}]}')
    waits = sweep(tmp_path / "6", {"abc": "12_0"}, epochs=3)  # for the job of the first one
    states = {"12_0": "PENDING", "12_1": "CANCELLED", "12_2": "RUNNING", "13": "RUNNING", "14_0": "RUNNING"}
    queue = {number: QueuedJob(state, script=old / ".submitit" / "job.sh") for number, state in states.items()}
    queue["15"] = QueuedJob("RUNNING", script=tmp_path / "mine.sh")
    write_jobs(tmp_path / "5", {"abc": job(tmp_path / "5", "12_0")})
    assert still_queued(asking, runs, queue, tmp_path / "3") == ({"abc": job(old, "12_0")}, set())
    for held in (old, waits):  # as the process that launched it does
        with locks.hold(held / schema.LOCK):
            assert still_queued(asking, runs, queue, tmp_path / "3") == ({"abc": job(old, "12_0")}, {"12_0"})
    assert still_queued(asking, runs, {}, tmp_path / "3") == ({}, set())
    assert set(still_queued(asking, runs, queue, tmp_path)[0]) == {"abc", "mno"}  # their scripts have that folder
