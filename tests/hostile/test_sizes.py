"""Sizes that no machine has are refused before the first step, with the number."""

from typing import Any

import pytest

from atbptt.config import validated
from atbptt.errors import ConfigError
from atbptt.system import resources
from atbptt.training.experiment import build
from tests.helpers.refusing import NEEDS, built, check_refused, defaults

pytestmark = pytest.mark.usefixtures("little_memory")

SIZES: list[tuple[str, str, dict[str, Any], tuple[str, ...]]] = [
    ("probe", "", {"probes": 100_000}, ("probes (=100000) must be at most 1000",)),
    ("probe", "", {"resamples": 10**7}, ("resamples (=10000000) must be at most 100000",)),
    ("probe", "", {"burn_in": 10**9}, ("burn_in + probe.window", "must not exceed")),
    ("probe", "", {"window": 10**9}, ("burn_in + probe.window", "must not exceed")),
    ("device", "", {"threads": 10**6}, ("threads (=1000000) must be less than or equal to 1024",)),
    ("device", "", {"jobs_per_gpu": 10**6}, ("jobs_per_gpu (=1000000) must be less than or equal to 64",)),
    *(
        ("dataset", base, {name: size}, ("train_steps", "batch_size", NEEDS))
        for base in ("copy_fixed", "repeat", "linear")
        for size in (10**9, 10**12)
        for name in ("train_steps", "batch_size")
    ),
    ("dataset", "repeat", {"valid_steps": 9 * 10**18}, ("valid_steps (=9000000000000000000)", "needs about 32 ZB")),
    ("dataset", "copy_fixed", {"max_length": 10**9}, ("train_steps (=1000) must be at least 2000000000",)),
    ("dataset", "repeat", {"period": 10**9}, ("train_steps (=1000) must be at least 1000000000",)),
    ("dataset", "linear", {"state_size": 10**9}, ("state_size (=1000000000) needs about 24 EB", NEEDS)),
    ("dataset", "linear", {"features": 10**12}, ("features (=1000000000000)", NEEDS)),
    ("dataset", "linear", {"features": 10**6}, ("train_steps (=1000) of 256 MB each", NEEDS)),
    ("model", "", {"hidden": 10**12}, ("hidden (=1000000000000) with 4.0e+24 parameters", "needs about 48 YB", NEEDS)),
    ("model", "", {"hidden": 20_000}, ("hidden (=20000) with 1.6e+09 parameters", NEEDS)),
    ("model", "", {"layers": 10**9}, ("layers (=1000000000) must lie in 1..1000",)),
    ("model", "", {"embedding": 10**12}, ("hidden (=6) with", "for 6 inputs and 6 outputs", NEEDS)),
    ("model", "point_process", {"embedding": 10**12}, ("hidden (=128) with", "for 4 event types", NEEDS)),
]


@pytest.mark.parametrize(("group", "base", "given", "words"), SIZES, ids=lambda value: str(value)[:50])
def test_a_size_that_would_eat_the_machine_is_refused_with_the_number(
    group: str, base: str, given: dict[str, Any], words: tuple[str, ...]
) -> None:
    check_refused(group, given, words, base)


def test_symbols_are_refused_where_a_run_would_need_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fed one-hot, in an evaluation; a cluster's machine may have that much."""
    with pytest.raises(ConfigError, match=r"^model.hidden \(=6\) with 3.0e\+10 parameters, for 1000000000 inputs and "):
        built("dataset", {"symbols": 10**9})
    monkeypatch.setattr(resources, "free_memory", lambda: 100 * 10**6)
    sizes = {"symbols": 1000, "valid_steps": 500, "batch_size": 64}
    rule = (
        r"^model \(=RecurrentNetwork\) in 500 steps of 64 streams at once needs about 256 MB of memory, and 100 MB are"
    )
    with pytest.raises(ConfigError, match=rule):
        built("dataset", sizes)
    assert build(validated({**defaults(), "dataset": defaults()["dataset"] | sizes}))


@pytest.mark.parametrize(
    ("probe", "rule"),
    [
        (
            {"window": 1900, "tau": 20, "positions": 1800},
            r"^probe.positions \(=1800\) with window \(=1900\) and 4 streams ",
        ),
        (
            {"window": 1900, "tau": 20, "decay_fit": "quantile"},
            r"^probe.window \(=1900\) with 4 streams needs about 90 MB",
        ),
        (
            {"resamples": 100_000},
            r"^probe.resamples \(=100000\) with window \(=12\), positions \(=2\) and 4 streams needs ",
        ),
    ],
)
def test_a_probe_that_needs_too_much_is_refused(
    probe: dict[str, Any], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = defaults()
    config = {**config, "dataset": config["dataset"] | {"train_steps": 2000}, "probe": config["probe"] | probe}
    monkeypatch.setattr(resources, "free_memory", lambda: 50 * 10**6)
    with pytest.raises(ConfigError, match=rule):
        build(validated(config))
