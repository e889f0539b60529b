from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import AnalysisError, labels, policies, settings
from analysis.statistics.options import check_replicates, conditions, format_value, natural, replicates


def options(**columns: list[Any]) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    named = {name.replace("__", "."): pd.array(values) for name, values in columns.items()}
    return pd.DataFrame({"experiment_id": [f"{n:012x}" for n in range(count)], **named})


def test_policy_labels_show_the_key_parameter_even_if_it_is_the_same_in_all_runs() -> None:
    frame = options(
        truncation=["fixed", "fixed", "adaptive", "adaptive", "mine", "mine"],
        truncation__K=[5, 5, None, None, None, None],
        truncation__delta=[None, None, 0.9, 0.5, None, None],
        truncation__K_init=[None, None, 15, 30, None, None],
        truncation__K_max=[None, None, 100, 100, 3, 3],
        truncation__rule=[None, None, None, None, "a", "b"],
    )
    assert policies(frame).tolist() == [
        "fixed K=5",
        "fixed K=5",
        "adaptive delta=0.9 K_init=15",
        "adaptive delta=0.5 K_init=30",
        "mine rule=a",
        "mine rule=b",
    ]
    assert policies(options(lr=[1.0])).tolist() == ["unknown"]


def test_the_seed_of_a_policy_is_the_runs_own_and_named_once() -> None:
    frame = options(
        truncation=["variable", "variable", "randomized"],
        truncation__base=[70, 70, None],
        truncation__length=[None, None, 50.0],
        truncation__seed=[0, 1, 0],
        seed=[0, 1, 0],
    )
    assert labels(frame).tolist() == [
        "variable base=70, seed=0",
        "variable base=70, seed=1",
        "randomized length=50, seed=0",
    ]
    frame["seed"] = 0
    assert policies(frame).tolist() == ["variable base=70 seed=0", "variable base=70 seed=1", "randomized length=50"]


def test_settings_are_the_options_that_tell_runs_apart() -> None:
    frame = options(
        lr=[1.0, 10.0, 1.0, 10.0],
        clip_norm=[1.0, 1.0, 1.0, 1.0],
        seed=[0, 0, 0, 1],
        init=[0, 1, 2, 3],
        epochs=[1.0, 2.0, 3.0, 4.0],
        seconds=[None, 1.0, 2.0, 3.0],
        output_dir=["a", "b", "c", "d"],
        device=["cpu", "cuda", "cpu", "cpu"],
        device__threads=[1, 2, 3, 4],
        monitor=["loss", "ppl", "ppl", "ppl"],
        truncation=["fixed", "fixed", "adaptive", "adaptive"],
        truncation__K=[5, 5, None, None],
        probe__window=[None, None, 100, 100],  # only where there are probes: the policy says so
        model=["lstm", "lstm", "gru", "gru"],
        model__hidden=[50, 50, 64, 64],  # goes with the model
        model__layers=[1, 2, 1, 1],  # differs between runs of one model
        dataset__data_dir=["a", "b", "a", "a"],  # of a user's data
    )
    assert settings(frame) == ["lr", "seed", "epochs", "seconds", "model", "model.layers", "dataset.data_dir"]


@pytest.mark.parametrize(
    ("inits", "expected"),
    [([0, 1, 0, 1], []), ([0, 0, 1, 1], ["probe"])],  # the first two runs have one K
    ids=["as replicates", "as two runs of one setting and init"],
)
def test_whether_there_are_probes_counts_only_where_it_is_all_that_tells_runs_apart(
    inits: list[int], expected: list[str]
) -> None:
    frame = options(
        init=inits,
        truncation=["fixed"] * 4,
        truncation__K=[5, 5, 9, 9],
        probe=["default", "none"] * 2,
        probe__window=[40, None] * 2,
    )
    assert settings(frame) == expected
    check_replicates(frame)
    assert labels(frame)[1] == "fixed K=5" + ", probe=none" * len(expected)
    assert conditions(frame) == []


def test_an_option_set_in_some_runs_of_a_policy_counts() -> None:
    frame = options(truncation=["fixed", "fixed"], clip_norm=[None, 1.0])
    assert settings(frame) == ["clip_norm"]
    assert labels(frame).tolist() == ["fixed, clip_norm=-", "fixed, clip_norm=1"]


def test_values_as_text_and_their_natural_order() -> None:
    values = [5, 10.0, 0.9, 1e-5, 1 / 3, None, np.float64("nan")]
    assert [format_value(value) for value in values] == ["5", "10", "0.9", "1e-05", repr(1 / 3), "-", "-"]
    names = ["fixed K=10", "fixed K=5", "adaptive delta=0.9", "adaptive delta=0.5", "fixed K=5, lr=1e-05"]
    assert sorted(names, key=natural) == [names[place] for place in (3, 2, 1, 4, 0)]


def test_a_seed_that_changes_with_init_is_a_replicate_and_any_other_is_a_setting() -> None:
    frame = options(init=[0, 1, 2], seed=[0, 1, 2], dataset__seed=[0, 1, 2])
    assert (settings(frame), replicates(frame)) == ([], "init and seed")
    for seeds in ([0, 1, 1], [0, 0, 1]):
        frame = options(init=[0, 1, 2], seed=seeds, dataset__seed=seeds)
        assert (settings(frame), conditions(frame), replicates(frame)) == (["seed"], ["seed"], "init")
    assert replicates(options(lr=[1.0])) == "runs"


@pytest.mark.parametrize(
    ("paths", "hashes", "expected"),
    [
        (["a", "a"], ["1", "2"], ["dataset.data_hash"]),  # edited
        (["a", "b"], ["1", "1"], []),  # moved
        (["a", "b"], ["1", "2"], ["dataset.path"]),  # the name tells more
        (["a", "a", "b"], ["1", "2", "3"], ["dataset.path", "dataset.data_hash"]),
        (["a", "b", "c"], ["1", "1", "2"], ["dataset.data_hash"]),
        (["a", "a"], ["1", None], ["dataset.data_hash"]),  # of a version that did not store it
    ],
)
def test_data_are_told_apart_by_what_they_hold(paths: list[str], hashes: list[str], expected: list[str]) -> None:
    frame = options(dataset=["text"] * len(paths), dataset__path=paths, dataset__data_hash=hashes)
    assert settings(frame) == conditions(frame) == expected


def test_code_tells_policies_and_settings_apart() -> None:
    frame = options(
        truncation=["mine", "mine", "fixed"],
        truncation__code_hash=["1", "2", None],
        truncation__K=[None, None, 5],
        model=["lstm", "own", "own"],
        model__code_hash=[None, "3", "4"],
    )
    assert policies(frame).tolist() == ["mine code_hash=1", "mine code_hash=2", "fixed K=5"]
    assert settings(frame) == conditions(frame) == ["model", "model.code_hash"]


def test_conditions_are_what_is_asked_and_the_rest_is_chosen() -> None:
    frame = options(
        epochs=[1.0, 2.0], lr=[1.0, 2.0], model=["lstm", "lstm"], model__hidden=[1, 2], scheme=["tf", "buffer"],
        dataset=["copy", "copy"], dataset__batch_size=[1, 2], optimizer=["sgd", "adam"], patience=[1.0, None],
        ended_by=["patience", None],
    )  # fmt: skip
    assert conditions(frame) == ["epochs", "scheme", "dataset.batch_size", "patience"]
    assert {*settings(frame)} - {*conditions(frame)} == {"lr", "model.hidden", "optimizer"}


def test_two_runs_of_one_setting_and_init_are_an_error_that_names_them() -> None:
    check_replicates(options(init=[0, 1, 0], lr=[1.0, 1.0, 2.0]))
    with pytest.raises(AnalysisError) as error:
        check_replicates(options(init=[0, 1, 1], lr=[1.0, 2.0, 2.0]))
    ids = "experiment_id 000000000001 and 000000000002"
    assert str(error.value).startswith(f"{ids} are two runs of unknown, lr=2 with init=1: ")
