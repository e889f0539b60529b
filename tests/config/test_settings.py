import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from atbptt.config.settings import Settings, flattened, validated
from atbptt.errors import ConfigError
from tests.helpers.projects import Project

BASE: dict[str, Any] = yaml.safe_load("""
{name: mine, output_dir: outputs, notes: null, tags: null,
 scheme: tf, phase: fixed, lr: 1.0, lr_scaling: sqrt, clip_norm: 1.0,
 seed: 0, init: 0, epochs: 2.0, seconds: null, patience: null, evaluate_every: 1.0, monitor: null,
 probe: {window: 12, tau: 8, burn_in: 4, positions: 2, probes: 1, resamples: 100,
   average: mean, decay_fit: ols, fit_from: null, kept_norm: of_mean},
 device: {type: cpu, threads: 1, jobs_per_gpu: 1},
 model: {name: lstm, _target_: atbptt.models.RecurrentNetwork, layers: 1, dropout: 0.0},
 dataset: {name: linear, _target_: atbptt.datasets.Linear, state_size: 2, features: 1, radius: 0.5, noise: 0.0,
   train_steps: 60, valid_steps: 30, test_steps: 30, batch_size: 4, seed: 0},
 truncation: {name: fixed, _target_: atbptt.truncation.Fixed, K: 5},
 optimizer: {name: adam, _target_: torch.optim.Adam, betas: [0.5, 0.999], weight_decay: 0.0},
 lr_decay: {name: none, _target_: atbptt.windows.NoDecay, warmup: 0.0}}
""")

SPLITS = ("train", "valid", "test")
# Another value of every leaf: of those that the id ignores, and of those that decide it.
IGNORED: dict[str, Any] = yaml.safe_load("""
{name: yours, output_dir: elsewhere, notes: a remark, tags: [night], epochs: 3.0, seconds: 10.0, patience: 1.0,
 monitor: loss, device.type: auto, device.threads: 2, device.jobs_per_gpu: 2,
 model.name: my lstm, dataset.name: my data, truncation.name: my policy, optimizer.name: my adam,
 lr_decay.name: my schedule}
""")
DECISIVE: dict[str, Any] = yaml.safe_load("""
{lr: 2.0, lr_scaling: none, clip_norm: null, scheme: double-tf, phase: random, seed: 1, init: 1,
 evaluate_every: 0.5,
 probe.window: 13, probe.tau: 7, probe.burn_in: 5, probe.positions: 1, probe.probes: 2, probe.resamples: 10,
 probe.average: geometric, probe.decay_fit: max, probe.fit_from: 0, probe.kept_norm: sum,
 model._target_: atbptt.models.networks.RecurrentNetwork, model.layers: 2, model.dropout: 0.5,
 dataset._target_: atbptt.datasets.linear.Linear, dataset.state_size: 3, dataset.features: 2, dataset.radius: 0.75,
 dataset.noise: 0.5, dataset.train_steps: 61, dataset.valid_steps: 31, dataset.test_steps: 31,
 dataset.batch_size: 5, dataset.seed: 1, truncation._target_: atbptt.truncation.fixed.Fixed, truncation.K: 6,
 optimizer._target_: torch.optim.AdamW, optimizer.betas: [0.25, 0.999], optimizer.weight_decay: 0.5,
 lr_decay._target_: atbptt.windows.InverseSqrtDecay, lr_decay.warmup: 1.0}
""")


def changed(**changes: Any) -> dict[str, Any]:
    """The base config with leaves set by dotted name."""
    config = copy.deepcopy(BASE)
    for path, value in changes.items():
        *sections, leaf = path.split(".")
        node = config
        for section in sections:
            node = node[section]
        node[leaf] = value
    return config


# As in earlier versions, or finished runs would not be found: of BASE, and composed from conf/, to pin its values too.
ID = "07fbdd18bc15"
IDS = {
    "truncation.K=5": "cd456756d046",
    "probe.decay_fit=max": "165f01a7d19c",
    "probe.decay_fit=quantile truncation=adaptive truncation.estimator=measured": "7559c0d539cb",  # of the scheme
    "experiment=copy_fixed arm=delta0.9": "10817e2d385d",
    "experiment=copy_fixed arm=K15 probe.decay_fit=max": "fc9056dca3ce",
    "dataset=text dataset.path=HERE truncation=adaptive truncation.as_published=true": "1c76ab29ec74",
    "dataset=text dataset.path=HERE truncation=adaptive": "f9a14fb30f6c",  # since K counts steps
    "dataset=text dataset.path=HERE truncation=randomized probe.decay_fit=quantile": "ef7a59e59fd1",
    "dataset=copy_variable model=gru truncation=warmup": "8d803c4d49a6",
    "truncation=variable optimizer=adam lr_scaling=sqrt scheme=tf": "22e997c19a50",
    "probe=none": "295b62198ea8",
    "probe=none experiment=copy_fixed size=small": "b6efd449bb45",
    "lr_decay=inverse_sqrt": "e333567558ac",
    "truncation=variable optimizer=momentum lr_decay=inverse_sqrt scheme=tf": "b5b434642ff5",
}


@pytest.mark.parametrize("overrides", IDS)
def test_ids_stay_what_they_were(settings: Callable[..., Settings], tmp_path: Path, overrides: str) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.txt").write_text("one two three four five six\n" * 300)
    given = [override.replace("HERE", str(tmp_path)) for override in overrides.split()]
    assert settings(*given, size=()).experiment_id == IDS[overrides]


def test_a_policys_config_without_a_later_argument_has_its_default_and_the_id_of_that() -> None:
    given = {"_target_": "atbptt.truncation.Adaptive", "delta": 0.5, "K_init": 4, "K_min": 2, "K_max": 9}
    without = validated(changed(truncation={**given, "name": "adaptive", "update_every": 1.0}))
    assert without.options()["truncation.as_published"] is False
    for stored, same in ((False, True), (True, False)):
        told = validated(changed(truncation={**without.truncation, "as_published": stored}))
        assert (told.experiment_id == without.experiment_id) == same


@pytest.mark.parametrize("name", ["none", "inverse_sqrt"])
def test_a_schedule_is_read_by_its_former_name(settings: Callable[..., Settings], name: str) -> None:
    """As the choice of the group; they stored no patience."""
    chosen = settings(f"lr_decay={name}")
    former = {**chosen.model_dump(), "lr_decay": name}
    del former["patience"]
    assert validated(former) == chosen
    assert validated(former).experiment_id == chosen.experiment_id
    assert chosen.options()["lr_decay"] == name


def test_the_monitor_counts_where_the_learning_rate_depends_on_it(
    settings: Callable[..., Settings], project: Project
) -> None:
    project.write(mine="class Mine:\n    def rate(self, lr, epoch): return lr\n\ndef make(): return Mine()")
    own = ("~lr_decay.warmup", "lr_decay._target_=mine.")
    for chosen, counts in (
        (["lr_decay=plateau"], True),
        (["lr_decay=cosine"], False),
        ([own[0], f"{own[1]}Mine"], False),
        ([own[0], f"{own[1]}make"], True),  # what it makes is not known yet
    ):
        ids = {settings(*chosen, f"monitor={monitor}").experiment_id for monitor in ("ppl", "loss")}
        assert len(ids) == 1 + counts


def test_a_cosine_over_the_budget_is_of_this_budget(settings: Callable[..., Settings]) -> None:
    def id_of(name: str, *options: str) -> str:
        return settings(f"lr_decay={name}", *options).experiment_id

    assert id_of("cosine", "epochs=3") != id_of("cosine", "epochs=4")
    assert id_of("cosine", "epochs=3") == id_of("cosine", "epochs=4", "lr_decay.epochs=3")
    for name, *options in (("plateau",), ("step", "lr_decay.epochs=[1]")):
        assert id_of(name, *options, "epochs=3") == id_of(name, *options, "epochs=4", "patience=2")


def test_the_former_name_of_an_option_is_read_and_stored() -> None:
    former = changed(**{"probe.estimator": BASE["probe"]["decay_fit"]})
    assert validated(former) == validated(BASE)  # given by both names
    del former["probe"]["decay_fit"]
    settings = validated(former)
    assert settings == validated(BASE)
    assert settings.model_dump()["probe"] == former["probe"]
    assert settings.options()["probe.estimator"] == "ols"
    assert validated(settings.model_dump()) == settings


def test_every_leaf_is_known_to_matter_to_the_id_or_not() -> None:
    assert set(IGNORED) | set(DECISIVE) == {name for name, _ in flattened(BASE)}
    assert set(IGNORED) & set(DECISIVE) == set()
    assert set(BASE) == set(Settings.model_fields)


@pytest.mark.parametrize("leaf", IGNORED)
def test_id_ignores_where_and_how_long(leaf: str) -> None:
    assert validated(changed(**{leaf: IGNORED[leaf]})).experiment_id == ID


@pytest.mark.parametrize("leaf", DECISIVE)
def test_id_depends_on_all_that_decides_the_result(leaf: str) -> None:
    assert validated(changed(**{leaf: DECISIVE[leaf]})).experiment_id != ID


def test_id_does_not_depend_on_how_numbers_are_written_and_the_order_of_keys() -> None:
    written = {"lr": 1, "seed": 0.0, "probe.window": 12.0, "model.layers": 1.0, "dataset.noise": 0, "truncation.K": 5.0}
    settings = validated(changed(**written, **{"optimizer.betas": (0.5, 0.999)}))
    assert settings.experiment_id == ID
    assert repr(settings.options()) == repr(validated(BASE).options())
    backwards = {key: BASE[key] for key in reversed(BASE)}
    backwards["dataset"] = {key: BASE["dataset"][key] for key in reversed(BASE["dataset"])}
    assert validated(backwards).experiment_id == ID


def test_options_are_all_leaves_by_dotted_name_without_nulls() -> None:
    settings = validated(BASE)
    options = settings.options()
    leaves = dict(flattened(BASE))
    groups = {"model": "lstm", "dataset": "linear", "truncation": "fixed", "optimizer": "adam", "lr_decay": "none"}
    left_out = {
        *(f"{group}.name" for group in groups),
        "seconds",
        "patience",
        "monitor",
        "probe.fit_from",
        "probe.decay_fit",
    }
    left_out |= {"notes", "tags", "patience"}
    assert set(options) == set(leaves) - left_out | {*groups, "experiment_id", "probe", "probe.estimator"}
    assert options["experiment_id"] == settings.experiment_id
    assert {group: options[group] for group in (*groups, "probe")} == groups | {"probe": "default"}
    assert options["truncation.K"] == 5
    assert json.loads(options["optimizer.betas"]) == [0.5, 0.999]


def test_without_probes_there_is_one_option_of_them_and_another_id() -> None:
    settings = validated(changed(probe="none"))
    assert (settings.probe, settings.model_dump()["probe"]) == (None, "none")
    assert {name: value for name, value in settings.options().items() if "probe" in name} == {"probe": "none"}
    assert validated(settings.model_dump()) == settings
    assert settings.experiment_id != ID


@pytest.mark.parametrize(
    ("given", "tags", "option"),
    [
        ("night", ["night"], "night"),
        (["night", " long run", 7, "night"], ["night", "long run", "7"], "night, long run, 7"),
        ([], [], None),
        (None, None, None),
    ],
)
def test_a_tag_or_several_are_one_option(given: Any, tags: list[str] | None, option: str | None) -> None:
    settings = validated(changed(tags=given, notes=""))
    assert (settings.tags, settings.options().get("tags")) == (tags, option)
    assert "notes" not in settings.options()
    before = {name: value for name, value in BASE.items() if name not in ("notes", "tags")}
    assert validated(before) == validated(BASE)  # as earlier versions stored it


def test_flattened_names_leaves_with_dots() -> None:
    tree = {"a": 1, "b": {"c": {"d": None}, "e": (1, 2)}, "f": {}}
    assert list(flattened(tree)) == [("a", 1), ("b.c.d", None), ("b.e", "[1, 2]")]


BAD_TAGS = (" ", "a,b", "two\nlines", "x" * 51)
NOT_AN_OPTION = r"^{} is no option; did you mean {}\?; the options are "


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        ("lr_scalling", 1, NOT_AN_OPTION.format("lr_scalling", "lr_scaling") + "name, output_dir, notes, tags, lr, "),
        ("probe.windw", 1, NOT_AN_OPTION.format("probe.windw", "window") + "window, tau, burn_in, "),
        ("device.thread", 1, NOT_AN_OPTION.format("device.thread", "threads") + "type, threads, jobs_per_gpu$"),
        ("model.hiden", 1, r"^model.hiden \(=1\) is no option of .*RecurrentNetwork; did you mean hidden\?; "),
        ("xyzzy", 1, r"^xyzzy is no option; the options are name, "),
        ("lr", 0, r"^lr \(=0\) must be greater than 0$"),
        ("lr", "fast", r"^lr \(=fast\) must be a valid number$"),
        ("lr", math.nan, r"^lr \(=nan\) must be a finite number$"),
        ("lr", None, r"^lr \(=null\) must be a valid number$"),
        ("clip_norm", 0, r"^clip_norm \(=0\) must be greater than 0$"),
        ("epochs", 0, r"^epochs \(=0\) must be greater than 0$"),
        ("seconds", 0, r"^seconds \(=0\) must be greater than 0$"),
        ("evaluate_every", -1, r"^evaluate_every \(=-1\) must be greater than 0$"),
        ("seed", -1, r"^seed \(=-1\) must be greater than or equal to 0$"),
        ("seed", 0.5, r"^seed \(=0.5\) must be a valid integer$"),
        ("init", -1, r"^init \(=-1\) must be greater than or equal to 0$"),
        *(("name", name, rf"^name \(={name}\) must be the name of a folder") for name in ("", "a/b", ".", "..")),
        ("output_dir", "", r"^output_dir \(=\) must be a folder"),
        ("notes", 5, r"^notes \(=5\) must be a valid string$"),
        (
            "notes",
            "a\tb",
            r"^notes \(='a\\tb'\) must have at most 1000 characters, no control characters but new",
        ),
        ("notes", "x" * 1001, r"^notes \(='x{40}'\) must have at most 1000 characters"),
        ("notes", "\udcff", r"^notes \(='\\udcff'\) must have at most"),
        ("tags", [0.5], r"^tags.0 \(=0.5\) must be a valid string$"),
        ("tags", {"a": 1}, r"^tags.0 \(=\{'a': 1\}\) must be a valid string$"),
        *(
            ("tags", tag, r"^tags \(='.*'\) must each have 1 to 50 characters, no comma, no control")
            for tag in BAD_TAGS
        ),
        ("tags", [f"{n}" for n in range(21)], r"^tags \(=21 tags\) must be at most 20$"),
        ("scheme", "tff", r"^scheme \(=tff\) must be one of .*double-tf.*; did you mean tf\?$"),
        ("lr_scaling", "sqr", r"^lr_scaling \(=sqr\) must be one of none, sqrt, linear; did you mean sqrt\?$"),
        ("lr_decay", "step", r"^lr_decay \(=step\) must be one of none, inverse_sqrt, or the config of a class$"),
        ("lr_decay", None, r"^lr_decay \(=null\) must be a valid dictionary$"),
        ("lr_decay.warmup", "two", r"^lr_decay.warmup \(=two\) must be a valid number$"),
        ("lr_decay.epochs", 5, r"^lr_decay.epochs \(=5\) is no option of atbptt.windows.NoDecay; its options are war"),
        ("patience", 0, r"^patience \(=0\) must be greater than 0$"),
        ("patience", math.nan, r"^patience \(=nan\) must be a finite number$"),
        ("probe.decay_fit", "olss", r"^probe.decay_fit \(=olss\) must be one of .*; did you mean ols\?$"),
        ("probe.tau", 0, r"^probe.tau \(=0\) must be greater than or equal to 1$"),
        ("probe.tau", 11, r"^probe.tau \(=11\) must leave the decay's fit 2 rows"),
        (
            "probe.estimator",
            "max",
            r"^probe.estimator \(=max\) is the former name of decay_fit, .* given too \(=ols\)$",
        ),
        ("probe.window", 1, r"^probe.window \(=1\) must be greater than or equal to 2$"),
        ("probe.probes", 0, r"^probe.probes \(=0\) must be greater than or equal to 1$"),
        ("probe.fit_from", -1, r"^probe.fit_from \(=-1\) must be greater than or equal to 0$"),
        ("seed", 2**63, r"^seed \(=9223372036854775808\) must fit in 64 bits$"),
        ("dataset.seed", -(2**63) - 1, r"^dataset.seed \(=-9223372036854775809\) must fit in 64 bits$"),
        ("lr", True, r"^lr \(=true\) must not be a truth value$"),
        ("probe.window", True, r"^probe.window \(=true\) must not be a truth value$"),
        ("truncation.K", True, r"^truncation.K \(=true\) must be a valid integer$"),
        ("device.type", "gpu", r"^device.type \(=gpu\) must be one of auto, cpu, cuda; did you mean cpu\?$"),
        ("device.jobs_per_gpu", 0, r"^device.jobs_per_gpu \(=0\) must be greater than or equal to 1$"),
        ("device.threads", 0, r"^device.threads \(=0\) must be greater than or equal to 1$"),
        *(
            ("probe", value, rf"^probe \(={shown}\) must be none, or options as in conf/probe/default.yaml$")
            for value, shown in ((None, "null"), ("off", "off"), (60, "60"), (["none"], r"\['none'\]"))
        ),
        ("probe", False, r"^probe \(=false\) must not be a truth value$"),
        ("model", None, r"^model \(=null\) must be a valid dictionary$"),
        ("truncation.K", "ten", r"^truncation.K \(=ten\) must be a valid integer$"),
        ("dataset.radius", math.inf, r"^dataset.radius \(=inf\) must be a finite number$"),
    ],
)
def test_a_broken_rule_is_reported_by_name_value_and_rule(leaf: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(changed(**{leaf: value}))


@pytest.mark.parametrize(
    ("leaf", "value"),
    [("probe.positions", 4), ("probe.fit_from", 10), ("probe.fit_from", 0), ("clip_norm", None), ("seed", 2**63 - 1)],
)
def test_the_edge_of_a_rule_is_allowed(leaf: str, value: Any) -> None:
    assert dict(flattened(validated(changed(**{leaf: value})).model_dump()))[leaf] == value


def test_several_errors_are_all_reported_one_a_line() -> None:
    broken = changed(**{"lr": -1, "probe.tau": 0, "device.threads": "many", "epoch": 3})
    del broken["seed"], broken["dataset"]
    with pytest.raises(ConfigError) as caught:
        validated(broken)
    lines = str(caught.value).splitlines()
    named = ["dataset", "device.threads", "epoch", "lr", "probe.tau", "seed"]
    assert sorted(line.split(" ")[0] for line in lines) == named
    assert {"lr (=-1) must be greater than 0", "seed is missing", "dataset is missing"} <= {*lines}


FILES = {"Text": [f"{split}.txt" for split in SPLITS]}
FILES["Events"] = [f"{kind}-{split}.txt" for split in SPLITS for kind in ("event", "time")]


@pytest.mark.parametrize("kind", FILES)
def test_id_follows_all_files_that_are_read_and_not_what_else_lies_in_their_folder(tmp_path: Path, kind: str) -> None:
    def id_of(folder: Path, **arguments: Any) -> str:
        node = {"_target_": f"atbptt.datasets.{kind}", "path": str(folder), "batch_size": 2, **arguments}
        return validated({**BASE, "dataset": node}).experiment_id

    folder = tmp_path / "a"
    folder.mkdir()
    for name in FILES[kind]:
        (folder / name).write_text("1 2\n")
    ids = [id_of(folder)]
    for name in FILES[kind]:
        (folder / name).write_text("1 3\n")
        ids.append(id_of(folder))
    assert len(set(ids)) == 1 + len(FILES[kind])
    (folder / "outputs").mkdir()
    (folder / "outputs" / "log.txt").write_text("of a run")
    moved = folder.rename(tmp_path / "b")
    assert id_of(moved) == ids[-1]
    if kind == "Events":
        without = id_of(moved, valid=None)
        (moved / "time-valid.txt").unlink()
        assert id_of(moved, valid=None) == without


def test_id_follows_documents_their_order_and_their_splits(tmp_path: Path) -> None:
    def id_of(**arguments: Any) -> str:
        node = {"_target_": "atbptt.datasets.Text", "path": str(tmp_path), "batch_size": 2, **arguments}
        return validated({**BASE, "dataset": node}).experiment_id

    for name in ("train/a", "train/b", "valid/d", "test/e", "train/.hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    names = {f"{split}_file": split for split in SPLITS}
    first = id_of(**names)
    assert id_of(**names, unit="word", split=None, resets=False) == first
    (tmp_path / "train" / ".hidden").write_text("changed")
    (tmp_path / "log.txt").write_text("of a run")
    (tmp_path / "train" / "b").rename(tmp_path / "train" / "c")
    assert id_of(**names) == first
    found = [first, id_of(**names, unit="byte"), id_of(**names, resets=True)]
    (tmp_path / "valid" / "d").write_text("changed")
    found.append(id_of(**names))
    (tmp_path / "train" / "c").rename(tmp_path / "train" / "0")
    found.append(id_of(**names))
    (tmp_path / "train" / "a").rename(tmp_path / "valid" / "a")  # all documents together stay in their order
    found.append(id_of(**names))
    for text in ("1", "2"):
        (tmp_path / "valid" / "a").write_text(text)
        for place in (tmp_path / "valid", tmp_path / "valid" / "a"):
            found += [id_of(path=str(place), split=split) for split in ([0.5, 0.25, 0.25], [0.25, 0.5, 0.25])]
    assert len({*found}) == len(found)
