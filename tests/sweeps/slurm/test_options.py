from __future__ import annotations

from typing import Any

import pytest

from atbptt.errors import ConfigError
from atbptt.sweeps.slurm.options import check_slurm, refused

OPTIONS: dict[str, Any] = {
    "nodes": 1,
    "tasks_per_node": 1,
    "timeout_min": 60,
    "signal_delay_s": 120,
    "max_num_timeout": 1000,
    "array_parallelism": 256,
    "cpus_per_task": 2,
    "partition": "gpu",
    "account": None,
    "mem_gb": 4,
    "gpus_per_node": 8,
    "qos": None,
    "constraint": None,
    "exclude": None,
}


@pytest.mark.usefixtures("made_up")
def test_options_that_fit_pass() -> None:
    check_slurm(OPTIONS, threads=2)
    check_slurm({**OPTIONS, "cpus_per_task": None}, threads=8)


def test_a_machine_without_slurm_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    message = (
        r"needs Slurm's sbatch, squeue, scontrol, scancel, srun, not on this machine's PATH; choose hydra/launcher=l"
    )
    with pytest.raises(ConfigError, match=rf"^hydra/launcher \(=slurm\) {message}"):
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
