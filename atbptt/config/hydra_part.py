"""Hydra's part of a job's config: `HydraConfig` and the environment variables of `hydra.job.env_set`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

OF_HYDRA = re.compile(r"[+~]*hydra[./@]")  # an override of Hydra's own options


def hydra_part(config: DictConfig, multirun: bool) -> dict[str, Any]:
    """Hydra's part of a composed config as plain containers, interpolations not resolved, without its help texts."""
    mode = RunMode.MULTIRUN if multirun or config.hydra.mode == RunMode.MULTIRUN else RunMode.RUN
    part = OmegaConf.to_container(config.hydra, resolve=False, enum_to_str=True)
    assert isinstance(part, dict)
    return {str(key): part[key] for key in part if key not in ("help", "hydra_help")} | {"mode": mode.name}


def hydra_of(
    shared: Mapping[str, Any], overrides: Sequence[str], number: int | None = None, directory: Path | None = None
) -> dict[str, Any]:
    """A job's part, as JSON takes it, from that of its choices of groups (`hydra_part`).

    Arguments:
        shared: left unchanged; the job's part has most of its containers.
        overrides: the job's, with or without Hydra's own.
        number: `hydra.job.num`, its number among those that are launched; None while that is unknown.
        directory: of its run, `hydra.runtime.output_dir`; None while that is unknown.
    """
    task = [text for text in overrides if not OF_HYDRA.match(text)]
    names = shared["job"]["config"]["override_dirname"]
    named = sorted(text for text in task if text.lstrip("+~").partition("=")[0] not in names["exclude_keys"])
    dirname = names["item_sep"].join(named).replace("=", names["kv_sep"])
    job: dict[str, Any] = {"override_dirname": dirname}
    if number is not None:
        job |= {"num": number, "id": str(number)}
    runtime = {} if directory is None else {"output_dir": str(directory.absolute())}
    return {
        **shared,
        "overrides": {**shared["overrides"], "task": task},
        "job": {**shared["job"], **job},
        "runtime": {**shared["runtime"], **runtime},
    }


@contextmanager
def as_job(config: Mapping[str, Any], part: Mapping[str, Any]) -> Iterator[DictConfig]:
    """Within, `HydraConfig.get()` and the environment are those of the job with this config and part (`hydra_of`).

    Yields both as one config, as Hydra's callbacks take it.
    """
    typed = OmegaConf.structured(HydraConf, flags={"struct": False})  # Hydra, too, has keys that HydraConf lacks
    whole = OmegaConf.create({**config, "hydra": OmegaConf.merge(typed, dict(part))})
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(whole)
    try:
        variables = OmegaConf.to_container(instance.get().job.env_set, resolve=True)
        with env_override(variables):  # type: ignore[arg-type]
            yield whole
    finally:
        instance.cfg = before
