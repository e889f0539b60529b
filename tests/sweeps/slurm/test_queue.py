from pathlib import Path
from typing import Any

import pytest

from atbptt.errors import ConfigError
from atbptt.sweeps.slurm.queue import (
    QueuedJob,
    SlurmError,
    Waiting,
    cancel,
    check_slurm,
    complaint_of,
    largest_array,
    partitions,
    queued_jobs,
    refused,
    state_of,
)
from tests.helpers.slurm import MadeUpSlurm

RUNNING, PENDING = QueuedJob("RUNNING", "None"), QueuedJob("PENDING", "Resources")


def test_squeue_lists_all_jobs_whatever_a_user_hides(made_up: MadeUpSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that ended, tasks of arrays, and reasons with commas and bars."""
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    pending = "12_3|PENDING|ReqNodeNotAvail, UnavailableNodes:n[1-2]|x\n"
    made_up.answers(f"7|COMPLETED|None|/a|b c\n{pending}\n 12_4|RUNNING|None\n")
    assert queued_jobs() == {
        "7": QueuedJob("COMPLETED", "None", Path("/a|b c")),
        "12_3": QueuedJob("PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-2]|x"),
        "12_4": RUNNING,
    }
    assert made_up.calls == ["squeue --me --noheader --array --states=all --format=%i|%T|%r|%o"]
    made_up.say("silent")
    with pytest.raises(SlurmError, match=r"^squeue: Unable to contact slurm controller \(connect failure\)$"):
        queued_jobs()


def test_a_job_is_over_when_two_answers_in_a_row_say_so() -> None:
    waiting = Waiting(["7", "12_0", "8"])  # the last one is unknown to Slurm
    waiting.note({"7": RUNNING, "12_0": PENDING})
    ended = QueuedJob("TIMEOUT")
    for answer in ({"7": ended, "12_0": PENDING}, {"7": RUNNING}, {"7": ended, "12_0": PENDING}):
        waiting.note(answer)
    assert waiting.left == {"7", "12_0"}
    waiting.note({"7": ended})
    assert waiting.left == {"12_0"}
    waiting.note({})
    assert waiting.left == set()
    assert waiting.ended == {"7": "TIMEOUT", "12_0": "PENDING", "8": "unknown"}


@pytest.mark.parametrize("state", ["PENDING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "SIGNALING"])
def test_what_is_requeued_or_held_up_is_not_over(state: str) -> None:
    waiting = Waiting(["7"])
    for _ in range(3):
        waiting.note({"7": QueuedJob(state)})
    assert waiting.left == {"7"}


def test_jobs_that_cannot_start_are_reported_once_and_by_reason() -> None:
    waiting = Waiting(["1", "2", "3", "4", "5", "6"])
    bad, limit, held = "BadConstraints", "QOSMaxWallDurationPerJobLimit", "launch failed requeued held"
    reasons = {"1": bad, "2": limit, "3": bad, "4": held, "5": "Priority", "7": bad}  # 7 is somebody else's
    answer = {number: QueuedJob("PENDING", reason) for number, reason in reasons.items()}
    answer["6"] = QueuedJob("RUNNING", bad)
    assert waiting.stuck(answer) == {bad: ["1", "3"], limit: ["2"], held: ["4"]}
    assert waiting.stuck(answer) == {}


def test_what_a_cluster_takes_and_has(made_up: MadeUpSlurm) -> None:
    cancel({"9", "12_1"})
    assert made_up.calls == ["scancel --quiet 12_1 9"]
    assert largest_array() == 3
    assert partitions() == ["long", "main"]
    made_up.answers("RUNNING\n")
    assert state_of("12_0") == "RUNNING"
    assert made_up.calls[-1] == "squeue --noheader --jobs=12_0 --format=%T"
    made_up.say("silent")
    assert partitions() == []


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("sbatch: error: invalid: x\nsbatch: error: Batch job submission failed: Invalid name", "Invalid name"),
        ("sbatch: unrecognized option '--no'\nTry 'sbatch --help' for more\n", "unrecognized option '--no'"),
        ("squeue: fatal: Unable to process configuration file", "Unable to process configuration file"),
        ("slurm_load_jobs error: Invalid job id specified", "slurm_load_jobs error: Invalid job id specified"),
        ("", "no reason given"),
    ],
)
def test_the_point_of_a_complaint(text: str, point: str) -> None:
    assert complaint_of(text) == point


OPTIONS: dict[str, Any] = {
    **{"nodes": 1, "tasks_per_node": 1, "timeout_min": 60, "signal_delay_s": 120, "max_num_timeout": 1000},
    **{"array_parallelism": 256, "cpus_per_task": 2, "partition": "gpu", "mem_gb": 4, "gpus_per_node": 8},
    **dict.fromkeys(("account", "qos", "constraint", "exclude")),
}


def test_a_machine_without_slurm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    rule = "needs Slurm's sbatch, squeue, scontrol, scancel, srun, not on this machine's PATH; choose hydra/launcher=j"
    with pytest.raises(ConfigError, match=rf"^hydra/launcher \(=slurm\) {rule}"):
        check_slurm(OPTIONS, threads=1)


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("nodes", 2, "(=2) must be 1: a run is one process"),
        ("tasks_per_node", 4, "(=4) must be 1: a run is one process"),
        ("timeout_min", 0, "(=0) must be at least 1 minute"),
        ("signal_delay_s", 3600, "(=3600) must be between 1 and timeout_min (=3600 s)"),
        ("signal_delay_s", 0, "(=0) must be between 1 and timeout_min (=3600 s)"),
        ("max_num_timeout", -1, "(=-1) must not be negative"),
        ("array_parallelism", 0, "(=0) must be at least 1 job at once"),
        ("cpus_per_task", 2, "(=2) must be at least device.threads (=3)"),
    ],
)
def test_an_option_that_does_not_fit_is_reported_with_its_rule(option: str, value: int, rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_slurm({**OPTIONS, option: value}, threads=3 if option == "cpus_per_task" else 1)
    check_slurm({**OPTIONS, option: None if option == "cpus_per_task" else OPTIONS[option]}, threads=2)
    assert str(error.value) == f"hydra.launcher.{option} {rule}"


@pytest.mark.usefixtures("made_up")
@pytest.mark.parametrize(
    ("option", "text", "hint"),
    [
        (".partition (=gpu)", "Invalid partition name specified", "; the partitions are long, main"),
        (".account (=null)", "Invalid account or account/partition combination specified", ""),
        (".qos (=null)", "Invalid qos specification", ""),
        (".timeout_min (=60)", "Requested time limit is invalid (missing or exceeds some limit)", ""),
        (".gpus_per_node (=8)", "Invalid generic resource (gres) specification", ""),
        (".mem_gb (=4)", "Memory specification can not be satisfied", ""),
        ("", "Job violates accounting/QOS policy (job submit limit, ...)", ""),
        ("", "Requested node configuration is not available", ""),
    ],
)
def test_a_refusal_names_the_option_that_it_is_about(option: str, text: str, hint: str) -> None:
    assert str(refused(text, OPTIONS)) == f"hydra.launcher{option} is refused by Slurm: {text}{hint}"
