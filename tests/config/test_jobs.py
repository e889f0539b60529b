"""Jobs as we compose them, against Hydra's own composition of each."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from atbptt.config.jobs import Shared, job_config
from atbptt.errors import ConfigError
from tests.config.conftest import Opened, composed

# Each composed by Hydra for every job apart, and by what jobs share. The number is of Hydra's compositions for the
# latter, so that what is not shared is known too; a job that is composed apart may have been tried before.
SAME = [
    (1, ["lr=3", "lr=4", "~arm", "~optimizer=sgd"]),
    (2, ["-m", "truncation=fixed,adaptive", "lr=1,10", "truncation.name=choice(mine)"]),
    (2, ["-m", "model=glob(rnn*)", "dataset=linear", "seed=3,4", "model.hidden=4"]),
    (1, ["-m", "lr=range(0.5,1.5,0.5)", "init=shuffle(range(1))", "seed=sort(3,1)"]),
    (1, ["+model.extra=1", "++model.hidden=7", "++probe.more.deep=[1,2,{a:3}]", "+new.section={a:[b,null,1.5]}"]),
    (2, ["-m", "probe=none,default", "lr=1,2", "experiment=ptb"]),
    (1, ["-m", "+model.extra=1,a,null", "~clip_norm"]),
    (1, ["~truncation.K", "~lr=1.0", "~evaluate_every", "+evaluate_every.window=3"]),
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
    (3, ["-m", "~name=false", "lr=1,2", "--config-dir=USERS/yaml", "--config-name=referring"]),
]


@pytest.mark.parametrize(("compositions", "arguments"), SAME, ids=[" ".join(arguments) for _, arguments in SAME])
def test_jobs_that_share_a_composition_are_as_hydra_composes_each(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, compositions: int, arguments: list[str]
) -> None:
    hydra, command, batch = opened(*arguments)
    apart = [job_config(hydra, command.name, overrides) for overrides in batch]
    counted = Mock(wraps=hydra.compose_config)
    monkeypatch.setattr(hydra, "compose_config", counted)
    made = Shared(hydra, command)
    shared = [made.config(overrides) for overrides in batch]
    # repr tells 1 from 1.0 and True, and the order of keys.
    assert list(map(repr, shared)) == list(map(repr, apart))
    assert counted.call_count == compositions


@pytest.mark.parametrize(
    "arguments",  # what only a job's own overrides show to be wrong
    [
        ["-m", "truncation=fixed,adaptive", "truncation.K=choice(3)"],
        ["-m", "probe=none,default", "++probe.window=60"],
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
    made = Shared(hydra, command)
    with pytest.raises(ConfigError) as shared:
        [made.config(overrides) for overrides in batch]
    with pytest.raises(ConfigError) as apart:
        [job_config(hydra, command.name, overrides) for overrides in batch]
    assert str(shared.value) == str(apart.value)


def test_a_job_leaves_nothing_to_the_next(opened: Opened) -> None:
    first, second, third = composed(opened, "-m", "+model.extra=[1],[2],[3]", "seed=1", "dataset.seed='${seed}'")
    assert [config["model"]["extra"] for config in (first, second, third)] == [[1], [2], [3]]
    first["model"]["extra"].append(4)
    first["probe"]["window"] = 0
    assert second["probe"]["window"] == 40


COPIED = {"model/gru": "hidden: 7", "arm/K5": "K: 55", "truncation/own": "defaults: [fixed]\nK: 3", "unused/x": "a: 1"}


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A user's folder: shipped files that are copied and edited, and files of its own."""
    for name, text in COPIED.items():
        path = (tmp_path / "mine" / name).with_suffix(".yaml")
        shipped = root / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        key = text.partition(":")[0]
        lines = shipped.read_text().splitlines() if shipped.exists() else []
        indent = next((line[: line.index(key)] for line in lines if line.lstrip().startswith(f"{key}:")), "")
        kept = [line for line in lines if not line.lstrip().startswith(f"{key}:")]
        path.write_text("\n".join([*kept, f"{indent}{text}"]))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("arguments", "leaf", "expected", "taken"),
    [
        ("model=gru", "model.hidden", [7], [["model/gru.yaml*"]]),
        ("-m model=lstm,gru lr=1,2", "model.hidden", [50, 50, 7, 7], [[], [], *[["model/gru.yaml*"]] * 2]),
        ("-m arm=K5,K10", "truncation.K", [55, 10], [["arm/K5.yaml*"], []]),
        ("truncation=own model=gru", "truncation.K", [3], [["model/gru.yaml*", "truncation/own.yaml"]]),
        ("hydra/launcher=basic", "lr", [1.0], [[]]),
    ],
)
def test_a_users_file_comes_before_the_shipped_one_of_its_name(
    opened: Opened, folder: Path, arguments: str, leaf: str, expected: list[float], taken: list[list[str]]
) -> None:
    hydra, command, batch = opened(f"--config-dir={folder}", *arguments.split())
    made = Shared(hydra, command)
    for overrides, value, names in zip(batch, expected, taken, strict=True):
        node = made.config(overrides)
        for part in leaf.split("."):
            node = node[part]
        assert node == value
        files = made.files(overrides)
        assert [f"{file.name}{'*' * file.replaces}" for file in files] == names
        assert {file.folder for file in files} <= {str(folder)}


def test_without_a_folder_of_the_user_there_are_no_files(opened: Opened) -> None:
    hydra, command, (overrides,) = opened("model=gru")
    assert Shared(hydra, command).files(overrides) == []


def test_a_file_says_where_it_is_taken_from(opened: Opened, folder: Path) -> None:
    hydra, command, (overrides,) = opened(f"--config-dir={folder}", "model=gru", "truncation=own")
    gru, own = Shared(hydra, command).files(overrides)
    assert str(gru) == f"model/gru.yaml is taken from {folder}, not the shipped one"
    assert str(own) == f"truncation/own.yaml is taken from {folder}"
