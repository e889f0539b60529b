"""A user's YAML files, and command lines that are opened to be composed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from atbptt.config.composing import Command, Hydra, composer, expanded, read_command
from atbptt.config.jobs import Shared

Opened = Callable[..., tuple[Hydra, Command, list[list[str]]]]


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A user's folder of YAML files: interpolations, a defaults list, a group and a primary config of its own."""
    for name, text in {
        "dataset/mine": "name: mine\n_target_: mine.Data\nseed: ${seed}\nwide: ${model.hidden}\nat: ${oc.env:HOME}\n"
        "nested: {_target_: mine.Part, sizes: [1, '2', 3.0, null], text: '${name}'}\nlater: ???\n",
        "experiment/mine": "# @package _global_\ndefaults:\n  - override /dataset: mine\n  - override /model: gru\n"
        "lr: 0.25\nmodel:\n  hidden: ${seed}\n",
        "experiment/sweeping": "# @package _global_\nhydra: {sweeper: {params: {truncation: 'fixed,adaptive'}}}\n",
        "experiment/always": "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {truncation: "
        "'adaptive,fixed', truncation.K: '5,6'}}}\n",
        "truncation/nested": "_target_: mine.Policy\nK: ???\npart: {size: 1}\nother: ${lr}\n",
        "experiment/noted": "# @package _global_\nhydra: {sweeper: {params: {notes: 'first, try', lr: '1,2'}}}\n",
        "experiment/searched": "# @package _global_\ndefaults: [override /hydra/sweeper: optuna]\n"
        "hydra: {mode: MULTIRUN, sweeper: {n_trials: 3, params: {lr: 'interval(1,2)', init: '1,2'}}}\n",
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
    """The config of each job of a command line (ConfigError)."""
    hydra, command, batch = opened(*arguments)
    made = Shared(hydra, command)
    return [made.config(overrides) for overrides in batch]
