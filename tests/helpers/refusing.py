"""A run with parts that are to be refused, and what a user's own parts do wrong."""

import functools
from collections.abc import Sequence
from typing import Any

import pytest

from atbptt.config import composer, job_config, validated
from atbptt.errors import UNPRINTABLE, ConfigError
from atbptt.training.experiment import build
from atbptt.training.trainer import Parts
from tests.conftest import ROOT, TINY

MOST = 3000  # characters of an answer to bad input
FREE = 8 * 10**9  # bytes of memory, in these tests
HUGE = "9" * 100_000
# What a user's own parts do wrong, by the name that they are given.
MODULES = {
    "exits": "import sys\n\n\nsys.exit('no more')\n",
    "stops": "class Stop(BaseException):\n    pass\n\n\nraise Stop('stop')\n",
    "inner": "import exits\n\n\nclass Part:\n    pass\n",
    "parts": """
import sys

import torch
from torch import nn

from atbptt.datasets import Copy
from atbptt.models import RecurrentNetwork


class Stop(BaseException):
    pass


def ended(how):
    if how == "exit":
        sys.exit("no more")
    if how == "stop":
        raise Stop("stop")


def returning_nothing(params, lr):
    pass


def returning_text(params, lr):
    return "sgd"


def exiting(params, lr):
    ended("exit")


def stopping(params, lr):
    ended("stop")


def holding_none(params, lr):
    return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=lr)


def holding_one(params, lr):
    return torch.optim.SGD([next(iter(params))], lr=lr)


class Closing(torch.optim.SGD):
    def step(self, closure=None):
        return closure()


class ExitingLater(torch.optim.SGD):
    def step(self, closure=None):
        ended("exit")


class Groupless:
    param_groups = None

    def __init__(self, params, lr):
        pass

    def step(self):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, saved):
        pass


class Data(Copy):
    def __init__(self, wrong: str = "", value=None):
        if wrong == "init":
            ended(value)
        super().__init__(2, 3, 4, 60, 40, 40, 2, 0)
        self.wrong, self.value = wrong, value
        if wrong in ("metric_names", "input_size", "output_size", "notes"):
            setattr(self, wrong, value)

    def found(self, name, right):
        if name != self.wrong:
            return right
        ended(self.value)
        return self.value

    def loss(self, outputs, targets):
        return self.found("loss", super().loss(outputs, targets))

    def measures(self, outputs, targets):
        right = super().measures(outputs, targets)
        if self.wrong == "averaged":
            return {"loss": right["loss"].mean()}
        return self.found("measures", right)

    def metrics(self, means):
        right = super().metrics(means)
        if self.wrong == "tensor":
            return right | {"ppl": torch.tensor(1.0)}
        if self.wrong == "ppl":
            return right | {"ppl": self.value}
        return self.found("metrics", right)

    def predictions(self, outputs, targets):
        return self.found("predictions", super().predictions(outputs, targets))


class Net(RecurrentNetwork):
    def __init__(self, input_size, output_size, when: str = "", how: str = "exit"):
        self.when, self.how = when, how
        self.end("init")
        super().__init__(input_size, output_size, hidden=4)

    def end(self, now):
        if now == self.when:
            ended(self.how)

    def initial_state(self, batch):
        self.end("state")
        return super().initial_state(batch)

    def recur(self, inputs, state):
        self.end("call")
        self.end("training" if self.training else "evaluation")
        return super().recur(inputs, state)


class Policy:
    def __init__(self, when: str = "", how: str = "exit"):
        self.when, self.how = when, how
        if when == "init":
            ended(how)

    @property
    def K(self):
        if self.when == "K":
            ended(self.how)
        return 3

    def update(self, progress, probe):
        pass


class Schedule:
    def __init__(self, rate=1.0, when: str = "", how: str = "exit"):
        self.found, self.when, self.how = rate, when, how
        if when == "init":
            ended(how)
        if when == "kept":
            self.kept = ended

    def rate(self, lr, epoch):
        if self.when == "rate":
            ended(self.how)
        return self.found

    def validated(self, value):
        if self.when == "validated":
            ended(self.how)


class Files:
    def __init__(self, path: str):
        pass

    @staticmethod
    def data_files(arguments):
        ended(arguments["path"])
        return {"nothing": None, "numbers": [1]}[arguments["path"]]
""",
}


def group_of(name: str, *overrides: str) -> dict[str, Any]:
    """The settings of a choice of a group."""
    group = "model" if name == "point_process" else "dataset"
    with composer(ROOT / "conf") as hydra:
        found: dict[str, Any] = job_config(hydra, "config", [f"{group}={name}", *overrides])[group]
    return found


@functools.cache
def bases() -> dict[str, dict[str, Any]]:
    """The settings of data sets and models, by name."""
    named = [("arrays", "text", "events"), ("copy_fixed", "repeat", "linear", "point_process")]
    given = {name: group_of(name, "dataset.path=x") for name in named[0]}
    return given | {name: group_of(name) for name in named[1]}


@functools.cache
def defaults() -> dict[str, Any]:
    with composer(ROOT / "conf") as hydra:
        return job_config(hydra, "config", [*TINY])


def built(group: str, given: dict[str, Any], base: str = "") -> Parts:
    """The parts of a tiny run with other settings of a group: all of them, or some if there is no `_target_`."""
    config = defaults()
    whole = given if "_target_" in given else {**bases().get(base, config[group]), **given}
    made = validated({**config, group: whole})
    assert made.experiment_id
    return build(made, here=True)


def check_refused(group: str, given: dict[str, Any], words: Sequence[str], base: str = "") -> None:
    """One line and not too long, with these words and the group's name."""
    with pytest.raises(ConfigError) as caught:
        built(group, given, base)
    text = str(caught.value)
    for word in (group, *words):
        assert word in text
    assert len(text) < MOST
    assert "\n" not in text
    assert not UNPRINTABLE.search(text)


PIPE = "is a pipe or a device, not a file"
NEEDS = "of memory, and 8.0 GB are free"
