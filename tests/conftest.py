"""What several test modules share: the reference data, the golden network, settings made from conf/."""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.config import composer, job_config
from atbptt.config.settings import Settings, validated
from atbptt.runs import schema
from atbptt.system import locks

ROOT = Path(__file__).parents[1]

Hold = Callable[[Path], object]

pytest.register_assert_rewrite("tests.helpers")

from tests.helpers.projects import Project  # noqa: E402  (rewritten)

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# What makes a run a matter of a second, for tests of everything but the result.
TINY_STREAMS = ("dataset.train_steps=60", "dataset.valid_steps=30", "dataset.test_steps=30", "dataset.batch_size=4")
TINY_PROBE = ("probe.window=12", "probe.tau=8", "probe.burn_in=4", "probe.positions=2")
TINY_RUN = (*TINY_STREAMS, "dataset.min_length=2", "dataset.max_length=2", "model.hidden=6", "epochs=2")
TINY = (*TINY_RUN, *TINY_PROBE)


def pytest_sessionstart() -> None:
    """Signals do what they do in a terminal, also where the tests run in the background, which ignores some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> Iterator[None]:
    """A run flushes them for as long as its process lives, and hypothesis draws no floats then."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` does; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"


@pytest.fixture
def hold() -> Iterator[Hold]:
    """`hold(directory)` holds the lock of a run or a sweep until the test ends."""
    with ExitStack() as held:
        yield lambda directory: held.enter_context(locks.hold(directory / schema.LOCK))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data beside the checkout; a user's clone has none."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("needs the reference data in ../shared")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Callable[[str], tuple[list[dict[str, Any]], Any]]:
    """Cases and arrays of one golden file."""

    @functools.cache
    def load(name: str) -> tuple[list[dict[str, Any]], Any]:
        folder = shared / "golden"
        with np.load(folder / f"{name}.npz") as archive:
            arrays = {key: archive[key] for key in archive.files}
        return json.loads((folder / f"{name}.json").read_text()), arrays

    return load


@pytest.fixture(scope="session")
def golden_point_process(shared: Path) -> dict[str, Tensor]:
    with np.load(shared / "golden" / "point_process.npz") as archive:
        return {name: torch.tensor(archive[name]) for name in archive.files}


class GoldenNetwork(nn.Module):
    """The network of the golden numbers: Linear on one-hot symbols, a torch recurrent layer, Linear."""

    def __init__(self, cell: str, symbols: int, hidden: int, layers: int) -> None:
        super().__init__()
        kind = {"LSTM": nn.LSTM, "GRU": nn.GRU}.get(cell, nn.RNN)
        options = {"nonlinearity": "relu"} if cell == "RNN_RELU" else {}
        self.encoder = nn.Linear(symbols, hidden)
        self.rnn = kind(hidden, hidden, layers, **options)
        self.decoder = nn.Linear(hidden, symbols)
        self.symbols = symbols
        self.state_names = ("hidden", "cell") if cell == "LSTM" else ("hidden",)
        self.double()

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        features = nn.functional.one_hot(inputs, self.symbols).double()
        hidden, state = self.rnn(self.encoder(features), state)
        return self.decoder(hidden), state


@pytest.fixture
def golden_network() -> Callable[[dict[str, Any], dict[str, np.ndarray], str], GoldenNetwork]:
    """The network of a golden case with the parameters stored under `case<i>_<kind>.`."""

    def make(case: dict[str, Any], arrays: dict[str, np.ndarray], kind: str) -> GoldenNetwork:
        prefix = f"case{case['case']}_{kind}."
        parameters = {
            key.removeprefix(prefix): torch.tensor(value) for key, value in arrays.items() if key.startswith(prefix)
        }
        hidden, symbols = parameters["encoder.weight"].shape
        network = GoldenNetwork(case["cell"], symbols, hidden, case["num_layers"])
        network.load_state_dict(parameters)
        return network

    return make


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings composed from conf/ with overrides, stored under tmp_path; tiny unless overridden."""

    def make(*overrides: str, size: tuple[str, ...] = TINY) -> Settings:
        with composer(ROOT / "conf") as hydra:
            return validated(job_config(hydra, "config", [*size, f"output_dir={tmp_path}", *overrides]))

    return make


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A folder for a user's modules, which are forgotten when the test ends."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would hide an edit within the same second
    made = Project(tmp_path / "project")
    monkeypatch.syspath_prepend(str(made.folder))
    yield made
    made.forget()


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides that make a run a matter of a second."""
    return TINY


@pytest.fixture
def loss() -> Callable[[Tensor, Tensor], Tensor]:
    """The cross entropy of each step and stream."""
    return lambda outputs, targets: nn.functional.cross_entropy(outputs.movedim(-1, 1), targets, reduction="none")
