"""Parts of a user's own that do not work are refused before the first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atbptt.errors import DataWarning
from tests.helpers.projects import Project
from tests.helpers.refusing import HUGE, NEEDS, PIPE, built, check_refused
from tests.hostile.conftest import Command

pytestmark = pytest.mark.usefixtures("little_memory")


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
    ("lr_decay", part("Schedule", when="init"), ("cannot be made by parts.Schedule", EXIT)),
    ("lr_decay", part("Schedule", when="rate"), ("(=parts.Schedule) fails at the first update", EXIT)),
    ("lr_decay", part("Schedule", when="validated", how="stop"), ("fails at the first update", STOP)),
    ("lr_decay", part("Schedule", when="kept"), ("cannot be stored in a checkpoint", "state_dict[kept] is a function")),
    ("lr_decay", part("Schedule", rate=-1), ("rate(lr=1, epoch=0) (=-1) must be a finite number of at least 0",)),
    ("lr_decay", part("Schedule", rate=None), ("rate(lr=1, epoch=0) (=null) must be a finite number",)),
    ("lr_decay", part("Schedule", rate=[0.5]), ("rate(lr=1, epoch=0) (=[0.5]) must be a finite number",)),
    ("lr_decay", part("Schedule", rate=HUGE), ("must be a finite number", "(100,000 characters)")),
    ("lr_decay", part("Policy"), ("lr_decay._target_ (=Policy) must have a method rate(lr, epoch)",)),
    (
        "lr_decay",
        part("atbptt.windows.StepDecay", epochs=[-1]),
        ("lr_decay.epochs (=[-1.0]) must be a list",),
    ),
    ("lr_decay", part("atbptt.windows.StepDecay", epochs="5"), ("lr_decay.epochs (=5) must be a valid list",)),
    ("lr_decay", part("stops.Part"), ("_target_ (=stops.Part) cannot be imported", STOP)),
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
