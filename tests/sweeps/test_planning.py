import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig

from atbptt import config, training
from atbptt.config.settings import Settings
from atbptt.errors import ConfigError
from atbptt.runs.sweep import Job
from atbptt.sweeps import planning
from atbptt.sweeps.planning import Plan, compose, plan
from atbptt.training.checks import check_probe
from atbptt.training.experiment import build_task, run
from atbptt.truncation import Fixed
from tests.helpers.flawed import FLAWED, Added
from tests.helpers.projects import Project

Planned = Callable[..., Plan]


@pytest.fixture
def planned(root: Path, tmp_path: Path, tiny: tuple[str, ...]) -> Planned:
    """The plan of a command line."""

    def make(*arguments: str, size: tuple[str, ...] = tiny, **options: Any) -> Plan:
        typed = sorted([*size, f"output_dir={tmp_path}/out", *arguments], key=lambda each: each[0] != "-")
        composed = compose(typed, root / "conf")  # Hydra wants flags first
        assert composed is not None
        return plan(composed, **options)

    return make


def test_a_sweep_is_the_product_of_its_values_labelled_by_what_differs(planned: Planned) -> None:
    jobs = planned("-m", "truncation=fixed,adaptive", "lr=1,10", "seed=4", "lr_scaling=none").jobs
    expected = [f"truncation={policy} lr={lr}" for policy in ("fixed", "adaptive") for lr in (1, 10)]
    assert [job.label for job in jobs] == expected
    assert len({job.settings.experiment_id for job in jobs}) == 4
    assert {job.settings.seed for job in jobs} == {4}


def test_an_option_of_some_choices_counts_for_those_and_the_plan_says_so(planned: Planned) -> None:
    plan = planned("-m", "truncation=fixed,adaptive", "truncation.K=5,10", "truncation.delta=0.5")
    expected = ["truncation=fixed truncation.K=5", "truncation=fixed truncation.K=10"]
    assert [job.label for job in plan.jobs] == [*expected, "truncation=adaptive truncation.delta=0.5"]
    assert plan.jobs[2].settings.truncation["delta"] == 0.5
    counts = {"K": "fixed", "delta": "adaptive"}
    assert plan.remarks == [f"truncation.{name} counts for truncation={policy} only" for name, policy in counts.items()]
    assert "truncation.delta=0.5" not in plan.command.overrides  # Hydra composes the sweep with truncation=fixed
    assert planned("-m", "truncation=fixed,adaptive").remarks == []


def test_an_arm_beside_another_policy_is_named_in_the_error(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"^truncation.K .*; arm=K7 and truncation=adaptive both choose the policy$"):
        planned("-m", "truncation=fixed,adaptive", "arm=K7")


def test_all_settings_run_with_one_init_before_the_next(planned: Planned) -> None:
    """A sweep that is cut short has compared all of them."""
    for arguments in ("init=1,0 truncation.K=5,2", "truncation.K=5,2 init=0,1"):
        plan = planned("-m", *arguments.split())
        runs = [(job.settings.init, job.settings.truncation["K"]) for job in plan.jobs]
        assert runs == [(0, 5), (0, 2), (1, 5), (1, 2)]
        assert plan.ahead == plan.jobs


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ("-m lr=1,10", ["lr=1 (lr in force 3.16 at K=10)", "lr=10 (lr in force 31.6 at K=10)"]),
        ("-m lr=2 init=0,1", ["init=0", "init=1"]),  # the same in all, as the lr that is typed
        ("-m lr=2 truncation.K=1,9", ["truncation.K=1", "truncation.K=9 (lr in force 6 at K=9)"]),
        ("-m truncation.K=4,9 notes=first,try tags=[a,b]", ["truncation.K=4", "truncation.K=9"]),  # no rate is typed
        ("-m lr=0.1 optimizer=adam,momentum", ["optimizer=adam", "optimizer=momentum (lr in force 0.316 at K=10)"]),
        (
            "-m lr=1 truncation=warmup,variable lr_scaling=linear",
            ["truncation=warmup (lr in force 2 at K=2)", "truncation=variable (lr in force 10 at K=10)"],
        ),
        ("-m lr=1 truncation=full scheme=buffer,tf", ["scheme=buffer", "scheme=tf"]),  # K is not known yet
    ],
)
def test_a_label_has_the_learning_rate_in_force_where_it_is_not_the_one_typed(
    planned: Planned, arguments: str, labels: list[str]
) -> None:
    assert [job.label for job in planned(*arguments.split()).jobs] == labels


def test_without_a_sweep_there_is_one_job_and_runs_named_twice_are_one(planned: Planned) -> None:
    (job,) = planned("lr=3").jobs
    assert (job.settings.lr, "lr=3" in job.label) == (3, True)
    assert [job.settings.init for job in planned("-m", "init=0,1,0").jobs] == [0, 1]


def test_an_experiment_also_runs_with_other_data_and_policies(planned: Planned, tmp_path: Path) -> None:
    """Its sizes of one data set, and its options of one policy, do not get in the way of another."""
    symbols = np.random.default_rng(0).integers(3, size=(300, 4))
    names = [f"{split}_{kind}" for split in ("train", "valid", "test") for kind in ("inputs", "targets")]
    np.savez(tmp_path / "own.npz", **dict.fromkeys(names, symbols))
    data = ("dataset=arrays", f"dataset.path={tmp_path}/own.npz")
    jobs = planned("-m", "experiment=copy_fixed,copy_variable", *data, "truncation=glob(*)", "scheme=tf", size=()).jobs
    assert [job.settings.name for job in jobs] == ["published_copy_fixed"] * 7 + ["published_copy_variable"] * 7
    assert {job.settings.model["layers"] for job in jobs} == {2}
    assert [job.settings.truncation.get("K_init") for job in jobs if "=adaptive" in job.label] == [15, 15]


# A line for each place that checks, before the first step; all rules of each are in its own tests.
BAD = [
    ("+lrr=1", r"^lrr is no option; did you mean lr\?"),
    ("-m lr=1,-2", r"^lr \(=-2\) must be greater than 0"),
    ("device.threads=1000", r"^device.threads \(=1000\) must not exceed this machine's cores"),
    ("-m hydra.launcher.n_jobs=0", r"^hydra.launcher.n_jobs \(=0\) must be at least 1 job at once"),
    ("-m epochs=1,2", r"^'epochs=1' and 'epochs=2' are the same run with another epochs: a sweep may name each run o"),
    ("monitor=pll", r"^monitor \(=pll\) must be one of ppl, loss; did you mean ppl\?"),
    ("probe.burn_in=49", r"^probe.burn_in \+ probe.window \(=61\) must not exceed the training stream's 60 steps"),
    ("dataset.max_length=31", r"^dataset.train_steps \(=60\) must be at least 62"),
    ("model.cell=lst", r"^model.cell \(=lst\) must be one of lstm, .*did you mean lstm\?"),
    ("-m truncation.K=3,0,4", r"^truncation.K \(=0\) must be at least 1"),
    ("truncation._target_=types.SimpleNamespace", r"^truncation"),
    ("optimizer=adam optimizer.betas=[0.5]", r"^optimizer.betas \(=\[0.5\]\) must be valid: field required"),
    ("optimizer=momentum optimizer.momentum=-1", r"^optimizer cannot be made by torch.optim.SGD: ValueError: Inv"),
    ("output_dir=/dev/null/x", r"^output_dir \(=/dev/null/x/copy_fixed/.*\) cannot be written: /dev/null is no folder"),
    ("dataset=linear model.embedding=8", r"^model.embedding \(=8\) must be null: the inputs are real numbers"),
    (
        "-m truncation=adaptive truncation.confidence=null,0.5 probe.resamples=0",
        r"^probe.resamples \(=0\) must be at least 1 for the policy's confidence \(=0.5\)",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[arguments for arguments, _ in BAD])
def test_bad_input_is_named_and_leaves_nothing(planned: Planned, tmp_path: Path, arguments: str, message: str) -> None:
    size = {"size": ()} if arguments.startswith("dataset=") else {}
    with pytest.raises(ConfigError, match=message):
        planned(*arguments.split(), **size)
    assert list(tmp_path.iterdir()) == []


def test_hydras_options_are_chosen_for_a_whole_sweep(planned: Planned, tmp_path: Path) -> None:
    """Not by a swept experiment, whose launcher would be ignored."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    for name, launcher in {"near": "joblib", "far": "basic"}.items():
        text = f"# @package _global_\ndefaults: [{{override /hydra/launcher: {launcher}}}]\n"
        (tmp_path / "mine" / "experiment" / f"{name}.yaml").write_text(text)
    users = f"--config-dir={tmp_path}/mine"
    assert [job.hydra["launcher"].keys() for job in planned(users, "experiment=far").ahead] == [{"_target_"}]
    expected = r"^hydra/launcher \(=basic\) is chosen by 'experiment=far', which is swept: set it for all jobs"
    with pytest.raises(ConfigError, match=expected):
        planned("-m", users, "experiment=near,far")


READING = """
import os

from hydra.core.hydra_config import HydraConfig

VARIABLE = os.environ["OF_JOB"]


class Mine:
    def __init__(self, K: int):
        job = HydraConfig.get()
        assert (job.mode.name, job.runtime.choices.model, VARIABLE) == ("MULTIRUN", "lstm", "set")
        assert job.job.override_dirname.startswith("dataset.batch_size=4,")
        assert "truncation.K=" + str(K) in job.overrides.task
        self.K = K

    def update(self, progress, probe):
        pass
"""


def test_a_users_class_finds_hydras_config_and_the_jobs_environment(planned: Planned, project: Project) -> None:
    project.write(reading=READING)
    given = ("-m", "truncation._target_=reading.Mine", "truncation.K=3,4", "lr_scaling=none")
    before = HydraConfig.instance().cfg
    plan = planned(*given, "+hydra.job.env_set.OF_JOB=set", "hydra.job.config.override_dirname.kv_sep='='")
    parts = [job.hydra_part(number) for number, job in enumerate(plan.ahead)]
    assert [part["job"]["num"] for part in parts] == [0, 1]
    assert [part["runtime"]["output_dir"] for part in parts] == [str(job.directory.path) for job in plan.ahead]
    assert "OF_JOB" not in os.environ
    assert HydraConfig.instance().cfg is before


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(("model", "message"), FLAWED.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_a_model_that_sees_or_remembers_too_much_is_refused(
    planned: Planned, tmp_path: Path, model: type[Added], message: str
) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    written = f"name: mine\n_target_: {model.__module__}.{model.__name__}\nhidden: 6"
    (tmp_path / "mine" / "model" / "mine.yaml").write_text(written)
    with pytest.raises(ConfigError, match=rf"^model \(={model.__name__}\) {message}"):
        planned("model=mine", f"--config-dir={tmp_path}/mine")


def test_finished_runs_are_neither_ahead_nor_checked(planned: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned("epochs=0.5")
    assert first.ahead == first.jobs
    run(first.jobs[0].settings)
    further = planned("epochs=1")
    assert further.ahead == further.jobs
    checked: list[Job] = []
    monkeypatch.setattr(planning, "_check", lambda plan, *_: checked.extend(plan.ahead))
    composed: list[Plan] = []
    again = planned("-m", "epochs=0.5", "init=0,1", prepare=composed.append)
    assert [job.settings.init for job in again.jobs] == [0, 1]
    assert [job.settings.init for job in again.ahead] == [1]
    assert checked == again.ahead
    assert composed == [again]


@pytest.mark.parametrize(
    ("sweep", "calls"),  # of build_task, build_policy, build, check_writable
    [
        ("truncation.K=2,3,4 lr=1,2 init=range(3) scheme=tf,buffer", [1, 3, 1, 2]),
        ("model.hidden=5,6 dataset.batch_size=3,4", [2, 1, 4, 2]),  # data first, whatever the order of the sweep
        ("truncation=adaptive truncation.delta=0.5,1 truncation.estimator=bound,measured output_dir=a,b", [1, 4, 2, 4]),
    ],
)
def test_what_jobs_share_is_built_once(
    planned: Planned, sweep: str, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {"build_task": training, "build_policy": config, "build": training, "check_writable": planning}
    counting = [Mock(wraps=getattr(home, name)) for name, home in homes.items()]
    for (name, home), counted in zip(homes.items(), counting, strict=True):
        monkeypatch.setattr(home, name, counted, raising=False)
    planned("-m", *sweep.split())
    assert [counted.call_count for counted in counting] == calls


def test_all_that_the_probe_check_reads_of_a_policy_is_known(settings: Callable[..., Settings]) -> None:
    read = set()

    class Noting(Fixed):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return {"estimator": "measured", "confidence": 0.5, "noise": True}.get(name)

    composed = settings()
    task = build_task(composed)
    model = composed.component("model").build(input_size=task.input_size, output_size=task.output_size)
    check_probe(composed.probe, model, task, Noting(5))
    assert read - {"K"} == {"estimator", "confidence", "noise"}


def test_what_needs_no_torch_is_answered_without_it(root: Path) -> None:
    shown = [["--help"], ["--cfg", "job", "preview=true"], ["-sc", "install=bash"]]
    # The last is not for the default scheme.
    wrong = [[option] for option in ("lr=-1", "lrr=1", "truncation.K=0", "probe.tau=99", "truncation=randomized")]
    code = (
        "import pathlib, sys\nfrom atbptt.launch import launch\n"
        f"for arguments in {[*shown, *wrong]}:\n"
        "    sys.argv = ['launch.py', *arguments]\n"
        "    try:\n"
        "        launch(arguments, pathlib.Path('conf').resolve())\n"
        "    except SystemExit as end:\n"
        "        print('answered', end.code, 'torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    answers = [line for line in done.stderr.splitlines() if line.startswith("answered")]
    assert answers == ["answered 0 False"] * len(shown) + ["answered 1 False"] * len(wrong), done.stderr
