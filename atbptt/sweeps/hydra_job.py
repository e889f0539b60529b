"""What a run's process has of Hydra: `HydraConfig`, the variables of `hydra.job.env_set`, a job's callbacks."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from atbptt.config import Settings, as_job
from atbptt.training import run


@contextmanager
def hydra_job(settings: Settings, part: Mapping[str, Any]) -> Iterator[None]:
    """Within, this process is a job of Hydra's; `part` is Hydra's part of its config.

    `on_job_start` and `on_job_end` are called before and after, of callbacks made here. Hydra warns if one fails.
    """
    with as_job(settings.model_dump(), part) as config:
        job = JobReturn(
            overrides=list(part["overrides"]["task"]),
            cfg=OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]),
            hydra_cfg=OmegaConf.masked_copy(config, ["hydra"]),
            working_dir=os.getcwd(),
            task_name=part["job"]["name"],
        )
        callbacks = Callbacks(config)
        callbacks.on_job_start(config=config, task_function=run)
        try:
            yield
            job.status = JobStatus.COMPLETED
        except BaseException as error:
            job.return_value, job.status = error, JobStatus.FAILED
            raise
        finally:
            callbacks.on_job_end(config=config, job_return=job)
