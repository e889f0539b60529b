import pytest

from atbptt.config.jobs import Shared
from atbptt.config.narrowing import narrowed
from atbptt.errors import ConfigError
from tests.config.conftest import Opened

K_ONLY = ["truncation.K counts for truncation=fixed only"]
ADAPTIVE_TOO = ["truncation=fixed truncation.K=5", "truncation=fixed truncation.K=9", *["truncation=adaptive"] * 2]
TABLE = [
    ("truncation=fixed,adaptive truncation.K=5,9", ADAPTIVE_TOO, K_ONLY),
    # Swept by an experiment's file: its parameters come first.
    (
        "experiment=sweeping truncation.K=5",
        ["truncation=fixed experiment=sweeping truncation.K=5", "truncation=adaptive experiment=sweeping"],
        K_ONLY,
    ),
    (
        "truncation.K_init=3 truncation=adaptive,warmup,fixed",  # before the group, and not in the default one
        ["truncation.K_init=3 truncation=adaptive", "truncation.K_init=3 truncation=warmup", "truncation=fixed"],
        ["truncation.K_init counts for truncation=adaptive,warmup only"],
    ),
    (
        "arm=K5,delta0.9 truncation.K_init=3",  # the arms choose the policy
        ["arm=K5", "arm=delta0.9 truncation.K_init=3"],
        ["truncation.K_init counts for truncation=adaptive only"],
    ),
    (
        "experiment=copy_fixed,book_order dataset.train_steps=60 model.hidden=4",  # and experiments the data
        ["experiment=copy_fixed dataset.train_steps=60 model.hidden=4", "experiment=book_order model.hidden=4"],
        ["dataset.train_steps counts for dataset=copy_fixed only"],
    ),
    (
        "probe=default,none probe.window=50",  # a value in the place of a section
        ["probe=default probe.window=50", "probe=none"],
        ["probe.window counts for probe=default only"],
    ),
    (
        "optimizer=adam,adadelta optimizer.eps=0.5",  # sgd, the default, has none
        ["optimizer=adam optimizer.eps=0.5", "optimizer=adadelta optimizer.eps=0.5"],
        [],
    ),
    ("truncation=adaptive,adaptive truncation.delta=1", ["truncation=adaptive truncation.delta=1"] * 2, []),
    (
        "truncation=nested,fixed truncation.K=3 truncation.part.size=2",
        ["truncation=nested truncation.K=3 truncation.part.size=2", "truncation=fixed truncation.K=3"],
        ["truncation.part.size counts for truncation=nested only"],
    ),
    # What is added or set beyond a group's options is not an option that a choice lacks.
    (
        "truncation=fixed,adaptive +truncation.extra=1 probe.window=50 lr=2",
        [f"truncation={name} +truncation.extra=1 probe.window=50 lr=2" for name in ("fixed", "adaptive")],
        [],
    ),
]


@pytest.mark.parametrize(("arguments", "jobs", "remarks"), TABLE, ids=[arguments for arguments, *_ in TABLE])
def test_an_option_counts_for_the_choices_that_have_it(
    opened: Opened, arguments: str, jobs: list[str], remarks: list[str]
) -> None:
    hydra, command, batch = opened("-m", "--config-dir=USERS/yaml", *arguments.split())
    shared = Shared(hydra, command)
    assert narrowed(shared, batch) == ([job.split() for job in jobs], remarks)
    for job in jobs:
        shared.config(job.split())  # composes


def test_an_experiment_that_sweeps_without_the_flag_is_a_sweep(opened: Opened) -> None:
    arguments = "--config-dir=USERS/yaml experiment=always truncation.delta=0.3"
    hydra, command, batch = opened(*arguments.split())
    jobs, _ = narrowed(Shared(hydra, command), batch)
    assert [sorted(job)[1:] for job in jobs] == [
        ["truncation.delta=0.3", "truncation=adaptive"],
        ["truncation.delta=0.3", "truncation=adaptive"],
        ["truncation.K=5", "truncation=fixed"],
        ["truncation.K=6", "truncation=fixed"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "truncation=fixed,adaptive truncation.delt=5",
            r"^truncation.delt is no option; did you mean delta\?; the options of truncation=fixed are K, of tr",
        ),
        (
            "arm=K5,delta0.9 truncation.K_final=5,6",
            r"^truncation.K_final is no option; .*; the options of truncation=fixed are K, of tr",
        ),
        ("truncation=fixed,nested truncation.K.deep=1", r"^truncation.K.deep is no option"),
    ],
)
def test_an_option_that_no_choice_has_is_named_with_those_of_all(opened: Opened, arguments: str, message: str) -> None:
    hydra, command, batch = opened("-m", "--config-dir=USERS/yaml", *arguments.split())
    shared = Shared(hydra, command)
    with pytest.raises(ConfigError, match=message):
        [shared.config(job) for job in narrowed(shared, batch)[0]]


def test_what_cannot_be_composed_is_left_to_be_reported(opened: Opened) -> None:
    hydra, command, batch = opened("-m", "truncation=fixed,nosuch", "truncation.K=3")
    assert narrowed(Shared(hydra, command), batch) == (batch, [])
