"""From checked jobs to runs: the chosen launcher, and the function that it calls for each job."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode
from hydra.utils import instantiate
from hydra_plugins.hydra_joblib_launcher.config import JobLibLauncherConf
from omegaconf import DictConfig, OmegaConf

from atbptt.config import OF_HYDRA, Command, composer, hydra_part, validated
from atbptt.errors import described, show_warning
from atbptt.runs import Job, Origin, RunDirectory, planned, schema
from atbptt.sweeps.process import Outcome, RunProcess, hydra_job
from atbptt.system import StoppedError
from atbptt.training import run

JOBLIB = "atbptt.sweeps.parallel.JoblibLauncher"  # takes the place of the plug-in's
IN_PROCESS = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def job(config: DictConfig) -> Outcome:
    """Do one job of any of Hydra's launchers in its own process; with `hydra/launcher=basic` here, for a debugger.

    Returns how it ended.
    """
    hydra = HydraConfig.get()
    number = 0 if OmegaConf.is_missing(hydra.job, "num") else hydra.job.num
    found = planned(Path(hydra.sweep.dir), number)
    if found is None:  # the plan is on a disk that this machine does not see
        settings = validated(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        found = settings, Origin(Path(hydra.sweep.dir).name), hydra_part(HydraConfig.instance().cfg, False)  # type: ignore[arg-type]
    if hydra.launcher._target_ != IN_PROCESS:
        return RunProcess(*found).wait()
    warnings.showwarning = show_warning
    settings, origin, part = found
    try:
        RunDirectory(settings, origin.experiment_id).make()
        with hydra_job(settings, part):
            run(settings, origin)
    except StoppedError as error:
        raise KeyboardInterrupt from error  # ends the jobs to come, too
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of a user's class, which may exit
        return Outcome(schema.FAILED, described(error))
    return Outcome(schema.FINISHED, "")


@contextmanager
def prepared_launcher(command: Command, jobs: Sequence[Job], sweep: Path) -> Iterator[tuple[Launcher, str]]:
    """Yield the launcher that a command line asks for, and the composed config of the sweep as YAML.

    Callbacks of the command are called before and after. Those of a job are called in the run's process (`hydra_job`),
    by whatever launcher.
    """
    # An override, since Hydra's launchers compose each job's config again.
    quoted = str(sweep).replace("'", "\\'")
    overrides = [*command.overrides, f"hydra.sweep.dir='{quoted}'"]
    with composer(command.config_dir, command.extra) as hydra:
        config = hydra.compose_config(command.name, overrides, RunMode.MULTIRUN, with_log_configuration=False)
        if command.multirun or config.hydra.mode is None:
            config.hydra.mode = RunMode.MULTIRUN if command.multirun else RunMode.RUN
        text = OmegaConf.to_yaml(config)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        if config.hydra.launcher._target_ == JobLibLauncherConf._target_:
            config.hydra.launcher._target_ = JOBLIB
        plugins = Plugins.instance()
        if plugins.is_in_toplevel_plugins_module(config.hydra.launcher._target_):
            launcher = plugins.instantiate_launcher(hydra_context=context, task_function=job, config=config)
        else:  # ours, or a user's
            launcher = instantiate(config.hydra.launcher)
            launcher.setup(hydra_context=context, task_function=job, config=config)
        callbacks = Callbacks(config)
        if config.hydra.mode == RunMode.MULTIRUN:
            callbacks.on_multirun_start(config, config_name=command.name)
            yield launcher, text
            callbacks.on_multirun_end(config, config_name=command.name)
            return
        callbacks.on_run_start(config, config_name=command.name)
        yield launcher, text
        (single,) = jobs
        done = JobReturn(overrides=single.overrides)
        done.status = JobStatus.COMPLETED if single.directory.finished() else JobStatus.FAILED
        callbacks.on_run_end(config, config_name=command.name, job_return=done)


def launch(launcher: Launcher, jobs: Sequence[Job]) -> dict[int, Outcome]:
    """Launch the jobs without Hydra's own options, which are the sweep's.

    Returns how they ended, by number, as far as the launcher tells.
    """
    overrides = [[o for o in job.overrides if not OF_HYDRA.match(o)] for job in jobs]
    returned = launcher.launch(overrides, initial_job_idx=0)
    if hasattr(launcher, "outcomes"):  # one of ours
        return {**launcher.outcomes}
    return {number: _outcome(each) for number, each in enumerate(returned or ()) if isinstance(each, JobReturn)}


def _outcome(returned: JobReturn) -> Outcome:
    """What `job` has returned in whatever process, or the error that it raised there."""
    value = returned._return_value  # whose property would print an error, and raise it
    return value if isinstance(value, Outcome) else Outcome(schema.FAILED, described(value))
