"""Parts that do not work, files that are none, and sizes that no machine has: refused before the first step."""

import functools
import io
import os
import socket
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from atbptt.config import composer, job_config, validated
from atbptt.datasets import SPLITS
from atbptt.errors import UNPRINTABLE, ConfigError, DataWarning
from atbptt.system import resources
from atbptt.training.experiment import build
from atbptt.training.trainer import Parts
from tests.conftest import ROOT, TINY
from tests.helpers.projects import Project
from tests.hostile.conftest import MOST, Command

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


class Files:
    def __init__(self, path: str):
        pass

    @staticmethod
    def data_files(arguments):
        ended(arguments["path"])
        return {"nothing": None, "numbers": [1]}[arguments["path"]]
""",
}


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same on any machine."""
    monkeypatch.setattr(resources, "free_memory", lambda: FREE)
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def users(project: Project) -> Project:
    project.write(**MODULES)
    return project


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


def part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name if "." in name else f"parts.{name}", **arguments}


EXIT, STOP = "SystemExit: no more", "Stop: stop"
FIRST = "fails on the first steps of the data"
IN_STEP = "fails in its first step, which takes no closure"
PARTS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    (
        "optimizer",
        part("returning_nothing"),
        ("_target_ (=parts.returning_nothing) makes null, which is no torch.opt",),
    ),
    (
        "optimizer",
        part("returning_text"),
        ("makes str, which is no torch.optim.Optimizer: it lacks param_groups, step",),
    ),
    ("optimizer", part("exiting"), ("cannot be made by parts.exiting", EXIT, "line ", "parts.py")),
    ("optimizer", part("stopping"), ("cannot be made by parts.stopping", STOP)),
    ("optimizer", part("holding_none"), ("holds none of the model's parameters: it would learn nothing",)),
    ("optimizer", part("Closing"), (IN_STEP, "(=parts.Closing)")),
    ("optimizer", part("ExitingLater"), (IN_STEP, EXIT)),
    ("optimizer", part("Groupless"), ("(=parts.Groupless) has no groups of parameters",)),
    ("optimizer", part("torch.optim.LBFGS"), (IN_STEP, "missing 1 required positional argument: 'closure'")),
    ("optimizer", part("torch.optim.SparseAdam"), (IN_STEP, "does not support dense gradients")),
    ("optimizer", part("exits.Part"), ("_target_ (=exits.Part) cannot be imported", EXIT, "line 4 of", "exits.py")),
    ("model", part("inner.Part"), ("_target_ (=inner.Part) cannot be imported", EXIT, "line 4 of", "exits.py")),
    ("dataset", part("stops.Part"), ("_target_ (=stops.Part) cannot be imported", STOP, "line 5 of", "stops.py")),
    ("truncation", part("stops.Part"), ("_target_ (=stops.Part) cannot be imported", STOP)),
    ("model", part("Net", when="init"), ("cannot be made by parts.Net", EXIT, "parts.py")),
    ("model", part("Net", when="init", how="stop"), ("cannot be made by parts.Net", STOP)),
    ("model", part("Net", when="state"), (EXIT,)),
    ("model", part("Net", when="call"), (FIRST, EXIT)),
    ("model", part("Net", when="training", how="stop"), (FIRST, STOP)),
    ("model", part("Net", when="evaluation", how="stop"), (FIRST, STOP)),
    ("truncation", part("Policy", when="init"), ("cannot be made by parts.Policy", EXIT)),
    ("truncation", part("Policy", when="K", how="stop"), ("Policy", STOP)),
    ("dataset", part("Data", wrong="init", value="exit"), ("cannot be made by parts.Data", EXIT)),
    ("dataset", part("Data", wrong="init", value="stop"), ("cannot be made by parts.Data", STOP)),
    ("dataset", part("Data", wrong="loss", value="exit"), (FIRST, EXIT)),
    ("dataset", part("Data", wrong="metrics", value="stop"), (FIRST, STOP)),
    ("dataset", part("Data", wrong="predictions", value="exit"), (FIRST, EXIT)),
    ("dataset", part("Data", wrong="metric_names", value="loss"), ("metric_names (=loss) must be a list of names",)),
    ("dataset", part("Data", wrong="metric_names"), ("metric_names (=null) must be a list of names of metrics",)),
    ("dataset", part("Data", wrong="metric_names", value=[1]), ("metric_names (=[1]) must be a list of names",)),
    ("dataset", part("Data", wrong="metric_names", value=HUGE), ("must be a list of names", "(100,000 characters)")),
    ("dataset", part("Data", wrong="input_size"), ("input_size (=null) must be a whole number",)),
    ("dataset", part("Data", wrong="output_size", value="4"), ("output_size (=4) must be a whole number",)),
    ("dataset", part("Data", wrong="notes"), ("notes (=null) must be a list of lines of text",)),
    ("dataset", part("Data", wrong="measures"), ("measures (=null) must return a dict of tensors by name",)),
    ("dataset", part("Data", wrong="measures", value={"loss": "1"}), ("measures.loss (=str) must be a tensor of the",)),
    ("dataset", part("Data", wrong="measures", value={"loss": None}), ("measures.loss (=null) must be a tensor",)),
    ("dataset", part("Data", wrong="averaged"), ("measures.loss (=()) must be a tensor of the shape (T, B), (8, 2)",)),
    ("dataset", part("Data", wrong="metrics"), ("metrics (=null) must return a dict of numbers by name",)),
    ("dataset", part("Data", wrong="metrics", value="good"), ("metrics (=good) must return a dict",)),
    ("dataset", part("Data", wrong="ppl", value="good"), ("metrics.ppl (=good) must be a number",)),
    ("dataset", part("Data", wrong="ppl"), ("metrics.ppl (=null) must be a number",)),
    ("dataset", part("Data", wrong="ppl", value=HUGE), ("metrics.ppl", "must be a number", "(100,000 characters)")),
    ("dataset", part("Data", wrong="tensor"), ("metrics.ppl (=tensor(1.)) must be a number",)),
    ("dataset", part("Data", wrong="predictions"), ("predictions (=null) must return a dict of pairs of tensors",)),
    ("dataset", part("Data", wrong="predictions", value={"symbol": None}), ("predictions.symbol (=['null']) must be",)),
    ("dataset", part("Data", wrong="predictions", value={"symbol": "ab"}), ("predictions.symbol (=['str']) must be",)),
    ("dataset", part("Files", path="exit"), ("fails in parts.Files.data_files", EXIT)),
    ("dataset", part("Files", path="stop"), ("fails in parts.Files.data_files", STOP)),
    ("dataset", part("Files", path="nothing"), ("fails in parts.Files.data_files: TypeError",)),
    ("dataset", part(f"parts.{HUGE}"), ("cannot be imported", f"{len(HUGE) + 6:,} characters")),
]


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(("group", "given", "words"), PARTS, ids=lambda value: str(value)[:60])
def test_a_part_that_does_not_keep_to_its_protocol_is_refused(
    group: str, given: dict[str, Any], words: tuple[str, ...]
) -> None:
    check_refused(group, given, words)


@pytest.mark.usefixtures("users")
def test_an_optimizer_that_holds_some_parameters_is_taken_with_a_warning() -> None:
    rule = r"optimizer._target_ \(=parts.holding_one\) holds 1 of the model's 6 parameters: the others stay as they be"
    with pytest.warns(DataWarning, match=rule):
        parts = built("optimizer", part("holding_one"))
    assert len(parts.optimizer.param_groups[0]["params"]) == 1


def test_the_step_that_is_tried_changes_nothing() -> None:
    """Nor does the optimizer that training gets know of it."""
    momentum = built("optimizer", part("torch.optim.SGD", momentum=0.9))
    other = built("optimizer", part("torch.optim.Adam"))
    pairs = zip(momentum.model.parameters(), other.model.parameters(), strict=True)
    assert all(torch.equal(one, two) and one.grad is None for one, two in pairs)
    assert not momentum.optimizer.state


def test_ctrl_c_in_a_users_code_ends_the_command(users: Project) -> None:
    users.write(parts="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        built("model", part("Net"))


Make = Callable[[Path], object]


def saved(**changes: Any) -> bytes:
    """An .npz file of three splits, some of whose arrays are others."""
    array = np.arange(60).reshape(30, 2) % 4
    stream = io.BytesIO()
    np.savez(stream, **{name: changes.get(name, array) for split in SPLITS for name in names_of(split)})
    return stream.getvalue()


def names_of(split: str) -> tuple[str, str]:
    return f"{split}_inputs", f"{split}_targets"


def header(shape: tuple[int, ...], descr: str = "<i8") -> bytes:
    stream = io.BytesIO()
    npy.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def archive(content: bytes, method: int = zipfile.ZIP_STORED, declared: int | None = None) -> bytes:
    """The arrays of `saved` with other bytes for train_inputs, of which the directory may declare another size."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved())) as whole, zipfile.ZipFile(stream, "w", method) as made:
        for name in whole.namelist():
            made.writestr(name, content if name == "train_inputs.npy" else whole.read(name))
        if declared is not None:
            made.getinfo("train_inputs.npy").file_size = declared
    return stream.getvalue()


def marked(offset_there: int, offset_listed: int, value: bytes) -> bytes:
    """The archive with other bytes in the two headers of its first member, train_inputs."""
    content = bytearray(saved())
    for start, offset in ((content.index(b"PK\3\4"), offset_there), (content.index(b"PK\1\2"), offset_listed)):
        content[start + offset : start + offset + 2] = value
    return bytes(content)


MEMBER = "its member train_inputs.npy"
BIG = 10**11
ARCHIVES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "no header": (archive(b"1 2 3 4"), (MEMBER, "ValueError")),
    "nothing": (archive(b""), (MEMBER,)),
    "half a header": (archive(header((30, 2))[:20]), (MEMBER,)),
    "half of the numbers": (archive(header((30, 2)) + bytes(200)), ("train_inputs (=(30, 2))", "has 200 bytes")),
    "huge shape": (archive(header((BIG, BIG))), (f"train_inputs (=({BIG}, {BIG}))", "has 0 bytes")),
    "negative shape": (archive(header((-3, -2))), ("train_inputs (=(-3, -2))", "at least 2 steps")),
    "bomb": (
        archive(header((BIG, 2)), declared=len(header((BIG, 2))) + 16 * BIG),
        ("mine.npz", "needs about 3.2 TB of memory, and 8.0 GB are free"),
    ),
    "objects": (saved(train_inputs=np.array([[1], [None]])), ("train_inputs (=object)", "must hold integers")),
    "times": (saved(train_inputs=np.zeros((30, 2), "m8[s]")), ("train_inputs (=timedelta64[s])", "must hold integers")),
    "code": (archive(header((30, 2)).replace(b"False", b"(1)()")), (MEMBER,)),
    "encrypted": (marked(6, 8, b"\1\0"), (MEMBER, "encrypted")),
    "unknown compression": (marked(8, 10, b"\x63\0"), (MEMBER, "compression")),
    "damaged compression": (marked(8, 10, b"\x08\0"), (MEMBER,)),
    "half": (saved()[:700], ("mine.npz) cannot be read as an .npz file",)),
    "text": (b"1 2 3\n" * 99, ("mine.npz) cannot be read as an .npz file",)),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_odd_npz_file_is_refused_with_its_member(tmp_path: Path, kind: str) -> None:
    content, words = ARCHIVES[kind]
    (tmp_path / "mine.npz").write_bytes(content)
    check_refused("dataset", {"path": str(tmp_path / "mine.npz")}, words, "arrays")


def listening(path: Path) -> None:
    """A socket's file; its name must be short."""
    here = os.getcwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


def sparse(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(10**12)


PIPE = "is a pipe or a device, not a file"
KINDS: dict[str, tuple[Make, str]] = {
    "pipe": (os.mkfifo, PIPE),
    "device": (lambda path: path.symlink_to("/dev/zero"), PIPE),
    "socket": (listening, "cannot be read: "),
    "loop": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "folder": (Path.mkdir, "is a folder, not a file"),
    "folder of all": (lambda path: path.symlink_to("/"), "is a folder, not a file"),
    "terabyte": (sparse, "needs about 1.0 TB of memory, and 8.0 GB are free"),
}
FILES = {"arrays": "mine.npz", "text": "train.txt", "events": "time-train.txt"}


def filled(folder: Path, name: str) -> dict[str, Any]:
    """Good files of a data set, and the options that read them."""
    if name == "arrays":
        (folder / "mine.npz").write_bytes(saved())
        return {"path": str(folder / "mine.npz")}
    for split in SPLITS:
        (folder / f"{split}.txt").write_text("a b c d\n" * 9)
        (folder / f"event-{split}.txt").write_text("1 2 3 1\n" * 9)
        (folder / f"time-{split}.txt").write_text("1 2 4 5\n" * 9)
    return {"path": str(folder)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_file_is_not_read(tmp_path: Path, name: str, kind: str) -> None:
    given, file = filled(tmp_path, name), tmp_path / FILES[name]
    make, rule = KINDS[kind]
    file.unlink()
    make(file)
    check_refused("dataset", given, (file.name, rule), name)


@pytest.mark.parametrize("kind", ["missing", "dangling"])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str, kind: str) -> None:
    given, file = filled(tmp_path, name), tmp_path / FILES[name]
    file.unlink()
    if kind == "dangling":
        file.symlink_to("nowhere")
    check_refused("dataset", given, (file.name,), name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("a\0b", ("path", "null")),
        ("x" * 5000, ("File name too long", "5,0")),
        (HUGE, ("File name too long", "characters")),
        ("a\x1b[31mb", ("\\x1b",)),
        ("/dev/null", ("path (=/dev/null",)),
        ("", ("path",)),
    ],
    ids=["null", "long", "huge", "escape", "device", "empty"],
)
@pytest.mark.parametrize("name", FILES)
def test_a_path_that_none_can_have_is_refused(name: str, path: str, words: tuple[str, ...]) -> None:
    check_refused("dataset", {"path": path}, words, name)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9 a b\n", ("line 1 of train.txt is not UTF-8: byte 0xe9 at position 4",)),
        (bytes(range(256)) * 9, ("line ", "of train.txt is not UTF-8")),
        (b"a b\rc\n", ("line 1 of train.txt has a carriage return",)),
    ],
    ids=["latin", "binary", "returns"],
)
def test_text_that_is_none_is_refused_and_leaves_no_cache(tmp_path: Path, content: bytes, words: Any) -> None:
    given = filled(tmp_path, "text")
    (tmp_path / "train.txt").write_bytes(content)
    check_refused("dataset", given, words, "text")
    assert not (tmp_path / "cache").exists()


def test_a_text_that_is_too_short_leaves_no_cache(tmp_path: Path) -> None:
    given = filled(tmp_path, "text") | {"batch_size": 1000}
    check_refused("dataset", given, ("batch_size (=1000) is too large",), "text")
    assert not (tmp_path / "cache").exists()


def test_events_that_are_too_many_kinds_for_memory_are_refused(tmp_path: Path) -> None:
    """Of an event, each step has as many numbers as there are kinds."""
    given = filled(tmp_path, "events") | {"batch_size": 2}
    (tmp_path / "event-train.txt").write_text("1 2 3 10000000\n" * 9)
    config = {**defaults(), "dataset": bases()["events"] | given, "model": bases()["point_process"]}
    with pytest.raises(
        ConfigError, match=r"^model.hidden \(=128\) with 2.6e\+09 parameters, for 10000000 event types, "
    ):
        build(validated(config))


NEEDS = "of memory, and 8.0 GB are free"
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


BY_COMMAND: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("probe.probes=100000",), ("probe.probes (=100000) must be at most 1000",)),
    (("device.threads=1000000",), ("device.threads (=1000000) must be",)),
    (("dataset.train_steps=1000000000000",), ("dataset.train_steps (=1000000000000)", NEEDS)),
    (("model.hidden=1000000",), ("model.hidden (=1000000)", NEEDS)),
    (("optimizer._target_=torch.optim.LBFGS", "~optimizer.weight_decay"), ("(=torch.optim.LBFGS)", "closure")),
    (("optimizer._target_=exits.Part",), ("(=exits.Part) cannot be imported: SystemExit: no more (line 4 of",)),
    (("truncation._target_=stops.Part",), ("(=stops.Part) cannot be imported: Stop: stop (line 5 of",)),
    (("dataset=arrays", "dataset.path=/dev/zero"), ("dataset.path (=/dev/zero)", PIPE)),
    (("dataset=text", "dataset.path=/dev"), ("dataset.path", "/dev")),
    (("dataset=text", "dataset.path=" + "x" * 5_000), ("dataset.path", "File name too long")),
]


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(("overrides", "words"), BY_COMMAND, ids=lambda value: str(value)[:60])
def test_the_command_says_it_in_a_line_and_leaves_nothing(
    here: Path, launched: Command, overrides: tuple[str, ...], words: tuple[str, ...]
) -> None:
    launched(*overrides).check(1, *words)
    assert not [*here.iterdir()]
