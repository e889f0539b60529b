"""Errors about the options of `hydra/launcher=slurm`, found here or by Slurm."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from atbptt.errors import ConfigError, listed, require, show
from atbptt.sweeps.slurm.queue import partitions

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel", "srun")
# The option that a refusal is about, by words in Slurm's message.
CAUSES = {
    "invalid account": "account",
    "invalid partition": "partition",
    "invalid qos": "qos",
    "requested time limit": "timeout_min",
    "generic resource": "gpus_per_node",
    "invalid feature": "constraint",
    "memory": "mem_gb",
    "invalid node name": "exclude",
    "cpu count": "cpus_per_task",
}


def check_slurm(options: Mapping[str, Any], threads: int) -> None:
    """Check that Slurm is here, and the options, also for the largest `device.threads` of the runs (ConfigError)."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        rule = f"needs Slurm's {listed(missing)}, not on this machine's PATH; choose hydra/launcher=local"
        raise ConfigError("hydra/launcher (=slurm)", rule)
    limit_s = 60 * options["timeout_min"]
    delay_s, cpus = options["signal_delay_s"], options["cpus_per_task"]
    for name, fits, rule in (
        ("nodes", options["nodes"] == 1, "must be 1: a run is one process"),
        ("tasks_per_node", options["tasks_per_node"] == 1, "must be 1: a run is one process"),
        ("timeout_min", limit_s > 0, "must be at least 1 minute"),
        ("signal_delay_s", 0 < delay_s < limit_s, f"must be between 1 and timeout_min (={limit_s} s)"),
        ("max_num_timeout", options["max_num_timeout"] >= 0, "must not be negative"),
        ("array_parallelism", options["array_parallelism"] >= 1, "must be at least 1 job at once"),
        ("cpus_per_task", cpus is None or cpus >= threads, f"must be at least device.threads (={threads})"),
    ):
        require(fits, f"hydra.launcher.{name}", options[name], rule)


def refused(text: str, options: Mapping[str, Any]) -> ConfigError:
    """Slurm's refusal of a job as an error about the option that caused it."""
    cause = next((name for words, name in CAUSES.items() if words in text.lower()), None)
    if cause is None:
        return ConfigError("hydra.launcher", f"is refused by Slurm: {text}")
    choices = partitions() if cause == "partition" else []
    hint = f"; the partitions are {listed(choices)}" if choices else ""
    return ConfigError(f"hydra.launcher.{cause}", f"(={show(options[cause])}) is refused by Slurm: {text}{hint}")
