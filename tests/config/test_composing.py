"""Command lines as Hydra reads and composes them; ours against Hydra's own, job by job."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hydra._internal.hydra import Hydra

from atbptt.config.composing import Command, composer, expanded, job_config, job_configs, read_command, split_preview
from atbptt.config.settings import validated
from atbptt.errors import ConfigError

Opened = Callable[..., tuple[Hydra, Command, list[list[str]]]]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A user's folder of YAML files: interpolations, a defaults list, a group and a primary config of its own."""
    for name, text in {
        "dataset/mine": "name: mine\n_target_: mine.Data\nseed: ${seed}\nwide: ${model.hidden}\nat: ${oc.env:HOME}\n"
        "nested: {_target_: mine.Part, sizes: [1, '2', 3.0, null], text: '${name}'}\nlater: ???\n",
        "experiment/mine": "# @package _global_\ndefaults:\n  - override /dataset: mine\n  - override /model: gru\n"
        "lr: 0.25\nmodel:\n  hidden: ${seed}\n",
        "experiment/former": "# @package _global_\nprobe:\n  estimator: quantile\n",
        "flavour/sweet": "sugar: ${lr}\n",
        "flavour/sour": "lemon: [1, 2]\n",
        "other": "defaults:\n  - config\n  - _self_\nlr: 7.0\nhydra:\n  sweeper:\n    params:\n      init: 1,2\n",
        "swept": "defaults:\n  - config\n  - _self_\nhydra: {sweeper: {params: {probe.estimator: 'max,ols'}}}\n",
        "referring": "defaults:\n  - config\n  - _self_\nname: ${oc.select:hydra.job.chdir,none}\n",
        "searching": f"defaults:\n  - config\n  - _self_\nhydra:\n  searchpath: ['file://{tmp_path}/more']\n",
    }.items():
        (tmp_path / "yaml" / name).with_suffix(".yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "yaml" / name).with_suffix(".yaml").write_text(text)
    (tmp_path / "more" / "rate").mkdir(parents=True)  # where it is searched, rate is a group, elsewhere a value
    (tmp_path / "more" / "rate" / "fast.yaml").write_text("value: 3\n")
    return tmp_path


@pytest.fixture
def opened(root: Path, users: Path) -> Iterator[Opened]:
    """Hydra, the command and the overrides of each job, of a command line."""
    with ExitStack() as stack:

        def make(*arguments: str) -> tuple[Hydra, Command, list[list[str]]]:
            given = [argument.replace("USERS", str(users)) for argument in arguments]
            command = read_command(sorted(given, key=lambda each: each[0] != "-"), root / "conf")  # flags come first
            assert command is not None
            hydra = stack.enter_context(composer(command.config_dir, command.extra))
            return hydra, command, expanded(hydra, command)[0]

        yield make


def composed(opened: Opened, *arguments: str) -> list[dict[str, Any]]:
    hydra, command, batch = opened(*arguments)
    return list(job_configs(hydra, command.name, batch))


# Each composed by Hydra for every job apart, and by what jobs share. The number is of Hydra's compositions for the
# latter, so that what is not shared is known too; a job that is composed apart may have been tried before.
SAME = [
    (1, ["lr=3", "lr=4", "~arm", "~optimizer=sgd"]),
    (2, ["-m", "truncation=fixed,adaptive", "lr=1,10", "truncation.name=choice(mine)"]),
    (2, ["-m", "model=glob(rnn*)", "dataset=linear", "seed=3,4", "model.hidden=4"]),
    (1, ["-m", "lr=range(0.5,1.5,0.5)", "init=shuffle(range(1))", "seed=sort(3,1)"]),
    (1, ["+model.extra=1", "++model.hidden=7", "++probe.more.deep=[1,2,{a:3}]", "+new.section={a:[b,null,1.5]}"]),
    (1, ["-m", "+model.extra=1,a,null", "~clip_norm"]),
    (1, ["~truncation.K", "~lr=1.0", "~probe", "+probe.window=3"]),
    (2, ["-m", "+model@second=gru,lstm", "second.hidden=4,5"]),
    (2, ["-m", "+flavour=[sweet,sour],sour", "--config-dir=USERS/yaml", "lr=1,2"]),
    (1, ["-m", "monitor=null,'null',1,'1',true,1e3,???"]),
    (1, ["dataset={seed:3}", "probe={window:50,tau:'40'}", "name='a b, c'", 'output_dir="x=y/{z}"', "monitor=a\\,b"]),
    (1, ["-m", "name='${dataset.name}_${lr}'", "lr=1,2", "output_dir='${oc.env:HOME}/${name}'"]),
    (1, ["-m", "dataset.seed='${init}','${model.hidden}'", "init=1,2", "+up='${.lr}'"]),
    (1, ["-m", "experiment=mine", "seed=5,6", "dataset.later=1", "--config-dir=USERS/yaml"]),
    (3, ["-m", "experiment=mine,copy_fixed,ptb", "model.hidden=choice(5,'${seed}')", "--config-dir=USERS/yaml"]),
    (1, ["-m", "seed=1,2", "--config-dir=USERS/yaml", "--config-name=other"]),
    (1, ["-m", "+rate=fast", "init=1,2", "--config-dir=USERS/yaml", "--config-name=searching"]),
    (1, ["-m", "hydra.launcher.n_jobs=1", "+hydra.job.env_set.A=b", "hydra/launcher=joblib", "lr=1,2"]),
    (2, ["-m", "+rate=fast", "hydra.searchpath=['file://USERS/more']", "init=1,2"]),
    (2, ["-m", "name='${oc.select:hydra.job.name,none}'", "lr=1,2"]),
    (2, ["-m", "+dataset.hydra=1", "lr=1,2"]),
    (4, ["-m", "~name=false", "lr=1,2", "--config-dir=USERS/yaml", "--config-name=referring"]),
]


@pytest.mark.parametrize(("compositions", "arguments"), SAME, ids=[" ".join(arguments) for _, arguments in SAME])
def test_jobs_that_share_a_composition_are_as_hydra_composes_each(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, compositions: int, arguments: list[str]
) -> None:
    hydra, command, batch = opened(*arguments)
    apart = [job_config(hydra, command.name, overrides) for overrides in batch]
    counted = Mock(wraps=hydra.compose_config)
    monkeypatch.setattr(hydra, "compose_config", counted)
    shared = list(job_configs(hydra, command.name, batch))
    # repr tells 1 from 1.0 and True, and the order of keys.
    assert list(map(repr, shared)) == list(map(repr, apart))
    assert counted.call_count == compositions


@pytest.mark.parametrize(
    "arguments",  # what only a job's own overrides show to be wrong
    [
        ["-m", "truncation=fixed,adaptive", "truncation.K=choice(3)"],
        ["-m", "lrr=1,2"],
        ["-m", "+lr=1,2"],
        ["-m", "lr=1,'${nosuch}'"],
        ["-m", "output_dir='${hydra.job.name}'", "lr=1,2"],
        ["-m", "--config-dir=USERS/yaml", "--config-name=referring", "~name=none,false"],
        ["-m", "lr='${a','b'"],
    ],
    ids=" ".join,
)
def test_what_is_wrong_with_a_job_is_reported_as_where_hydra_composes_it(opened: Opened, arguments: list[str]) -> None:
    hydra, command, batch = opened(*arguments)
    with pytest.raises(ConfigError) as shared:
        list(job_configs(hydra, command.name, batch))
    with pytest.raises(ConfigError) as apart:
        [job_config(hydra, command.name, overrides) for overrides in batch]
    assert str(shared.value) == str(apart.value)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ("probe.estimator=max", ["max"]),
        ("probe={tau:20,estimator:max}", ["max"]),
        ("-m probe.estimator=max,ols", ["max", "ols"]),
        ("experiment=former", ["quantile"]),
        ("-m experiment=former probe.estimator=max,ols", ["max", "ols"]),
        ("-m --config-name=swept", ["max", "ols"]),
    ],
)
def test_an_option_is_set_by_its_former_name_too(opened: Opened, arguments: str, fits: list[str]) -> None:
    configs = composed(opened, "--config-dir=USERS/yaml", *arguments.split())
    assert [validated(config).probe.decay_fit for config in configs] == fits


def test_a_job_leaves_nothing_to_the_next(opened: Opened) -> None:
    first, second, third = composed(opened, "-m", "+model.extra=[1],[2],[3]", "seed=1", "dataset.seed='${seed}'")
    assert [config["model"]["extra"] for config in (first, second, third)] == [[1], [2], [3]]
    first["model"]["extra"].append(4)
    first["probe"]["window"] = 0
    assert second["probe"]["window"] == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("lrr=1", r"^lrr is no option; did you mean lr\?; the options are lr, lr_scaling, "),
        ("probe.windo=9", r"^probe.windo is no option; did you mean window\?"),
        ("truncation.delta=0.5", r"^truncation.delta is no option; the options of truncation=fixed are K"),
        ("truncation=adaptve", r"^truncation \(=adaptve\) is no option; did you mean adaptive\?; .* adaptive, fixed"),
        ("truncatoin=fixed", r"^truncatoin is no option; did you mean truncation\?"),
        ("preveiw=true", r"^preveiw is no option; "),
        ("lr.deep=1", r"^lr.deep is no option$"),
        ("model=null", r"^model \(=null\) must be one of gru, lstm, point_process, rnn_relu, rnn_tanh$"),
        ("truncation=5", r"^truncation \(=5\) must be one of adaptive, fixed, full, randomized, variable, warmup$"),
        ("-m hydra.sweeper._target_=mine.Sweeper", r"^hydra/sweeper \(=mine.Sweeper\) must be basic: "),
        ("-m lr=range(0)", r"^lr=range\(0\) names no value: there is nothing to run"),
        ("-m lr=interval(0,1)", r"^config cannot be composed: BasicSweeper does not support sweep type : INTERVAL"),
        ("lr=${nosuch}", r"^lr cannot be resolved: Interpolation key 'nosuch' not found$"),
        ("lr=[1", r"^'lr=\[1' cannot be read"),
        ("nonsense", r"^'nonsense' cannot be read: options are given as key=value"),
        ("--nonsense", r"^command line: unrecognized arguments: --nonsense"),
        ("lr=1,2", r"^lr=1,2 names several values, a sweep: add -m"),
        ("--config-dir=/nowhere", r"^--config-dir \(=/nowhere\) is no folder"),
        ("--config-name=none", r"^--config-name \(=none\) is no option"),
        ("-m truncation=fixed,adaptive truncation.K=3", r"^truncation.K is no option; .*=adaptive are delta, "),
        # Hydra composes what is not swept with the default policy, which has no `delta`.
        (
            "-m truncation=adaptive,adaptive truncation.delta=1",
            r"truncation.delta='choice\(VALUE\)' sets it in every job$",
        ),
        *((f"preview={v}", rf"^preview \(={v}\) must be true or false$") for v in ("maybe", "", "true,false")),
    ],
)
def test_what_cannot_be_composed_is_reported(opened: Opened, arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed(opened, *arguments.split())


def test_an_option_of_swept_choices_alone_is_set_as_a_choice(opened: Opened) -> None:
    configs = composed(opened, "-m", "truncation=adaptive,adaptive", "truncation.delta=choice(0.5)")
    assert [config["truncation"]["delta"] for config in configs] == [0.5, 0.5]


def test_a_command_is_taken_apart(root: Path, tmp_path: Path) -> None:
    flags = ["-m", f"--config-dir={tmp_path}", "--config-name=mine", "--config-path=elsewhere"]
    command = read_command([*flags, "lr=1,2", "preview=true", "seed=3"], root / "conf")
    assert command == Command(["lr=1,2", "seed=3"], True, "mine", root / "elsewhere", tmp_path, True)
    assert read_command([], root / "conf") == Command([], False, "config", root / "conf", None, False)
    for flag in ("--help", "--cfg=job", "--info=config", "--hydra-help"):  # only show something
        assert read_command([flag, "lr=1"], root / "conf") is None


@pytest.mark.parametrize(
    ("arguments", "preview"),
    [
        ("-m lr=1,2", False),
        ("preview=true -m lr=1,2", True),
        ("-m preview=True lr=1,2", True),
        ("-m lr=1,2 preview=false", False),
        ("preview=false -m lr=1,2 preview=true", True),
    ],
)
def test_a_preview_is_asked_for_anywhere_and_hidden_from_hydra(arguments: str, preview: bool) -> None:
    assert split_preview(arguments.split()) == (["-m", "lr=1,2"], preview)
