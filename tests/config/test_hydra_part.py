"""Hydra's part of a job's config: the same as Hydra's launchers make, and what a user's class sees of it."""

import json
import os
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from atbptt.config.hydra_part import as_job, hydra_of
from atbptt.config.jobs import Shared
from tests.config.conftest import Opened


def test_a_jobs_part_is_as_hydra_makes_it(opened: Opened, tmp_path: Path) -> None:
    options = (
        "hydra.job.config.override_dirname={item_sep:';',kv_sep:-,exclude_keys:[seed]}",
        "+hydra.job.env_set.A=b",
    )
    hydra, command, batch = opened("-m", "truncation=fixed,adaptive", "lr=1,2", "seed=3", "~arm", *options)
    made = Shared(hydra, command)
    for number, overrides in enumerate(batch):
        expected = hydra.compose_config(command.name, overrides, None, with_log_configuration=False).hydra
        part = json.loads(json.dumps(hydra_of(made.part(overrides), overrides, number, tmp_path)))
        with as_job(made.config(overrides), part):
            job = HydraConfig.get()
            assert job.overrides == expected.overrides
            assert job.runtime.choices == expected.runtime.choices
            assert job.job.override_dirname == expected.job.override_dirname
            assert (job.job.num, job.job.id, job.mode.name) == (number, str(number), "MULTIRUN")
            assert job.runtime.output_dir == str(tmp_path)
            assert job.run.dir == "outputs/copy_fixed"  # an interpolation into the job's config
            assert os.environ["A"] == "b"
    assert "A" not in os.environ
    assert not HydraConfig.initialized()
