"""Hydra's part of a config: what is refused by name, and what a job's part and a user's class see of it."""

import copy
import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from atbptt.config.composing import composer, expanded, read_command
from atbptt.config.hydra_options import (
    FIXED,
    as_job,
    check_hydra,
    check_plugin,
    check_same,
    hydra_of,
    hydra_part,
    launcher_options,
)
from atbptt.config.jobs import Shared
from atbptt.config.settings import flattened
from atbptt.errors import ConfigError
from tests.config.conftest import Opened, composed

Part = dict[str, Any]


@pytest.fixture(scope="module")
def shipped(root: Path) -> Part:
    """Hydra's part of the default config."""
    command = read_command([], root / "conf")
    assert command is not None
    with composer(command.config_dir) as hydra:
        return hydra_part(expanded(hydra, command)[1], multirun=False)


@pytest.fixture
def setting(shipped: Part) -> Callable[[str, Any], Part]:
    """Hydra's part with a value of an option, as a YAML file may set it."""

    def make(name: str, value: Any) -> Part:
        part = copy.deepcopy(shipped)
        *sections, leaf = name.split(".")
        functools.reduce(lambda node, key: node[key], sections, part)[leaf] = value
        return part

    return make


# Each of these has an effect, which another test shows.
COUNTS = {
    *("searchpath", "mode", "sweeper._target_", "sweeper.params", "launcher._target_", "launcher.n_jobs", "job.name"),
    *(f"job.config.override_dirname.{name}" for name in ("kv_sep", "item_sep", "exclude_keys")),
    "job.env_copy",
}


def test_every_option_of_hydra_counts_or_is_refused(shipped: Part, setting: Callable[[str, Any], Part]) -> None:
    by_hydra = ("overrides.", "runtime.", "job.override_dirname", "job.config_name")  # refused as overrides
    check_hydra(shipped, [])
    left = set(COUNTS)
    for name, _ in flattened(shipped):
        section = next((fixed for fixed in FIXED if f"{name}.".startswith(f"{fixed}.")), None)
        if section is not None:
            with pytest.raises(ConfigError, match=rf"^hydra\.{section} .* would be ignored: "):
                check_hydra(setting(section, "else"), [])
        elif name.startswith("launcher.") and name not in COUNTS:
            with pytest.raises(ConfigError, match=rf"^hydra\.{name} .*: only n_jobs counts$"):
                launcher_options(OmegaConf.create({"hydra": setting(name, "else")}))
        elif name.startswith(by_hydra):
            with pytest.raises(ConfigError, match=r"cannot be set: Hydra sets it itself$"):
                check_hydra(shipped, [f"hydra.{name}=else"])
        elif not name.startswith("launcher.") or name in left:  # other options of joblib: test_composing.py
            left.remove(name)
    assert not left


def noted(name: str) -> str:
    return name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("foo", 1, r"^hydra.foo \(=1\) is no option of Hydra; the options of hydra are "),
        ("job.nam", "x", r"^hydra.job.nam \(=x\) is no option of Hydra; did you mean name\?; the options of hydra.job"),
        ("run.dir", "there", r"^hydra.run.dir \(=there\) would be ignored: .*: set output_dir or name$"),
        ("job.env_set", {"A=B": "1"}, r"^hydra.job.env_set \(=A=B=1\) must be the name and value of an environment v"),
        ("callbacks", {"mine": 3}, r"^hydra.callbacks.mine \(=3\) must have a _target_ that names a class$"),
        ("callbacks", {"mine": {"_target_": "nosuch.X"}}, r"^hydra.callbacks.mine._target_ \(=nosuch.X\) cannot be im"),
        ("callbacks", {"mine": {"_target_": f"{__name__}.noted", "x": 1}}, r"^hydra.callbacks.mine.x \(=1\) is no op"),
    ],
)
def test_options_of_hydra_that_cannot_be_right(
    setting: Callable[[str, Any], Part], name: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_hydra(setting(name, value), [])


def test_a_primary_config_without_the_shipped_options_of_hydra_is_told_of_them(
    setting: Callable[[str, Any], Part],
) -> None:
    part = setting("run.dir", "outputs/today")
    del part["runtime"]["choices"]["hydra"]
    with pytest.raises(ConfigError, match=r"would be ignored: the defaults of your primary config must have `hydra: d"):
        check_hydra(part, [])


def test_a_launcher_takes_its_options() -> None:
    check_plugin("hydra.launcher", {"_target_": f"{__name__}.noted", "name": "x"})
    with pytest.raises(ConfigError, match=r"^hydra.launcher.names \(=1\) is no option; did you mean name\?; the opt"):
        check_plugin("hydra.launcher", {"_target_": f"{__name__}.noted", "names": 1})
    with pytest.raises(ConfigError, match=r"^hydra.launcher does not fit .*noted: missing a required arg.*name'$"):
        check_plugin("hydra.launcher", {"_target_": f"{__name__}.noted"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("+hydra.job.env_set.A=null", r"^hydra.job.env_set.A \(=null\) cannot be set: field .* is not Optional$"),
        ("hydra.job.env_set.A=b", r"^hydra.job.env_set.A takes new names with \+ only: \+hydra.job.env_set.A=b$"),
        ("hydra.job.env_copy=[NO_SUCH]", r"^hydra.job.env_copy \(=NO_SUCH\) is no variable of the environment$"),
        ("hydra.searchpath=[/no/such]", r"^hydra.searchpath \(=/no/such\) is no folder$"),
        ("hydra.mode=BAD", r"^hydra.mode \(=BAD\) cannot be set: Invalid value 'BAD', expected one of \[RUN, MULTIRUN"),
        ("experiment=unknown --config-dir=USERS/yaml", r"^hydra.foo cannot be set as in experiment/unknown.yaml: "),
        ("name=${hydra:job.num}", r"^name \(=\$\{hydra:job.num\}\) cannot be resolved: it depends on the other jobs"),
        ("name=${hydra:nosuch}", r"^name .* cannot be resolved: there is no such option of Hydra$"),
        (
            "name=${hydra:job.override_dirname}",
            r"^name .* it contains name itself; leave that out with hydra.job.config.override_dirname.exclude_keys=",
        ),
    ],
)
def test_what_hydra_would_say_less_clearly(opened: Opened, users: Path, arguments: str, message: str) -> None:
    (users / "yaml/experiment/unknown.yaml").write_text("# @package _global_\nhydra: {foo: 1}\n")
    with pytest.raises(ConfigError, match=message):
        composed(opened, *arguments.split())


def test_names_may_refer_to_hydras_part(opened: Opened) -> None:
    before = HydraConfig.instance().cfg
    exclude = "hydra.job.config.override_dirname.exclude_keys=[name]"
    name = "name='${hydra:job.name}_${hydra:runtime.choices.truncation}_${hydra:job.override_dirname}'"
    configs = composed(opened, "-m", name, exclude, "hydra.job.name=mine", "truncation=fixed,full", "lr=1")
    assert [config["name"] for config in configs] == [f"mine_{k}_lr=1,truncation={k}" for k in ("fixed", "full")]
    assert HydraConfig.instance().cfg is before


def test_a_jobs_part_is_as_hydra_makes_it(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = HydraConfig.instance().cfg
    monkeypatch.setenv("COPIED", "c")
    monkeypatch.setenv("A", "before")
    options = ["+hydra.job.env_set={A:'${seed}${hydra:job.num}'}", "hydra.job.env_copy=[COPIED]"]
    options += ["hydra.job.config.override_dirname={item_sep:';',kv_sep:-,exclude_keys:[seed]}"]
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
            assert (os.environ["A"], os.environ["COPIED"]) == (f"3{number}", "c")
    assert os.environ["A"] == "before"
    assert HydraConfig.instance().cfg is before


def test_all_jobs_of_a_sweep_share_hydras_options(setting: Callable[[str, Any], Part], shipped: Part) -> None:
    check_same(shipped, setting("overrides.task", ["lr=1"]), "lr=1")
    for name, value, said in [
        ("job.env_set", {"A": "b"}, "hydra.job.env_set.A (=b)"),
        ("runtime.choices", {**shipped["runtime"]["choices"], "hydra/launcher": "slurm"}, "hydra/launcher (=slurm)"),
    ]:
        with pytest.raises(ConfigError) as error:
            check_same(shipped, setting(name, value), "experiment=mine")
        assert str(error.value).startswith(f"{said} is chosen by 'experiment=mine', which is swept: ")
