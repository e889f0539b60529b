import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest
import torch

from atbptt.config.settings import Settings
from atbptt.datasets import GrowingCopy
from atbptt.errors import AnalysisError
from atbptt.models import cross_entropy
from atbptt.runs import checkpoints, read_checkpoint, schema, tables
from atbptt.system import locks
from atbptt.training.experiment import run
from atbptt.training.stored_model import open_stored_model
from atbptt.training.trust import Trust
from tests.conftest import TINY
from tests.helpers.projects import POLICY, Project
from tests.helpers.training import composed, train


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("runs"), "truncation=adaptive", "truncation.K_max=20")


@pytest.fixture
def directory(trained_run: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(trained_run, tmp_path / trained_run.name))


def content(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["{}", f"{{}}/{schema.CHECKPOINT}", "link.pt"])
def test_the_model_is_as_the_run_left_it_and_the_run_as_it_was(directory: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link.pt").symlink_to(directory / schema.CHECKPOINT)
    before = content(directory)
    with locks.hold(directory / schema.LOCK):  # as by a run that goes on
        found = open_stored_model(tmp_path / name.format(directory.name))
    assert content(directory) == before
    saved = read_checkpoint(directory / schema.CHECKPOINT)
    assert all(torch.equal(value, saved["model"][key]) for key, value in found.model.state_dict().items())
    assert (found.experiment_id, found.state) == (directory.name, schema.FINISHED)
    assert (found.K, found.step, found.epoch) == (saved["policy"]["K"], 120, 2.0)
    assert found.checkpoint == directory / schema.CHECKPOINT
    assert not found.remarks
    # Its loss on the test split is the one that the run logged last.
    inputs, targets = found.task.test.read(0, found.task.test.length)
    found.model.eval()
    outputs, _ = found.model(inputs, found.model.initial_state(found.task.test.batch))  # type: ignore[operator]
    rows = pq.read_table(directory / schema.METRICS).to_pylist()
    metrics = [row for row in rows if row["metric"] == "test_loss"]
    assert cross_entropy(outputs, targets).mean().item() == pytest.approx(metrics[-1]["value"], rel=1e-5)


def test_the_training_stream_is_that_of_the_pass_in_progress(tmp_path: Path) -> None:
    for epochs in (1.5, 2):
        options = ("dataset=copy_growing", "dataset.max_length=4", "dataset.growth=2", f"epochs={epochs}")
        task = open_stored_model(train(tmp_path, *options)).task
        assert isinstance(task, GrowingCopy)
        assert torch.equal(task.train.inputs, task.train_pass(1).inputs)


def test_full_backpropagation_has_the_stream_as_its_length(tmp_path: Path) -> None:
    assert open_stored_model(train(tmp_path, "truncation=full", "epochs=1")).K == 60


def test_a_damaged_checkpoint_is_left_there_and_the_one_before_taken(directory: Path) -> None:
    saved = directory / schema.CHECKPOINT
    saved.write_bytes(saved.read_bytes()[:-1])
    before = content(directory)
    found = open_stored_model(directory)
    assert found.checkpoint == directory / schema.PREVIOUS_CHECKPOINT
    assert found.remarks == (f"{saved} is damaged and left out",)
    with pytest.raises(AnalysisError, match=r"checkpoint\.pt is damaged; give the run's directory to read another"):
        open_stored_model(saved)
    assert content(directory) == before
    (directory / schema.PREVIOUS_CHECKPOINT).write_bytes(b"")
    with pytest.raises(AnalysisError, match="its checkpoints are damaged"):
        open_stored_model(directory)


def test_what_is_no_checkpoint_of_a_run(directory: Path, tmp_path: Path) -> None:
    for mine in (tmp_path / "mine.pt", directory / "mine.pt"):
        torch.save(torch.nn.LSTM(2, 2).state_dict(), mine)
        with pytest.raises(AnalysisError, match=r"is no checkpoint of a run; .* atbptt\.probe\(model, loss, "):
            open_stored_model(mine)
    with pytest.raises(AnalysisError, match=r"cannot be read: No such file or directory"):
        open_stored_model(tmp_path / "nowhere")
    with pytest.raises(AnalysisError, match=r"is no run's directory, which has a checkpoint\.pt"):
        open_stored_model(tmp_path)
    for name in (schema.CHECKPOINT, schema.PREVIOUS_CHECKPOINT):
        (directory / name).unlink()
    with pytest.raises(AnalysisError, match="has stored no checkpoint yet"):
        open_stored_model(directory)


def test_a_checkpoint_of_another_version_or_run(directory: Path) -> None:
    saved = read_checkpoint(directory / schema.CHECKPOINT)
    checkpoints.save(directory, saved | {schema.ID: "0123456789ab"})
    with pytest.raises(AnalysisError, match=rf"is a checkpoint of the run 0123456789ab, not of {directory.name}"):
        open_stored_model(directory)
    del saved[schema.ID]  # as the version before
    checkpoints.save(directory, saved)
    assert open_stored_model(directory).step == 120
    checkpoints.save(directory, {"format": 99})
    with pytest.raises(AnalysisError, match=r"stored by another version of atbptt \(format 99, this one reads 2\)"):
        open_stored_model(directory)


def test_a_config_that_does_not_belong_to_the_checkpoint(directory: Path) -> None:
    config = directory / schema.CONFIG
    began = config.read_text()
    config.write_text(began.replace("lr: 1.0", "lr: 2.0"))
    (remark,) = open_stored_model(directory).remarks
    assert remark == f"{config} is not the config that the run {directory.name} began with"
    for content, message in (
        (began.replace("hidden: 6", "hidden: 7"), r"does not fit the model of .*config\.yaml.*size mismatch"),
        ("a: [", r"config\.yaml cannot be read: cannot be read as YAML"),
    ):
        config.write_text(content)
        with pytest.raises(AnalysisError, match=message):
            open_stored_model(directory)
    config.unlink()
    with pytest.raises(AnalysisError, match=r"has no config\.yaml beside it"):
        open_stored_model(directory)


MODEL = """
from atbptt.models import RecurrentNetwork

class Mine(RecurrentNetwork):
    def __init__(self, input_size: int, output_size: int):
        super().__init__(input_size, output_size, hidden=6)
"""


def test_a_class_that_exits_when_it_is_loaded_is_reported(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", Mock(side_effect=SystemExit(0)))
    with pytest.raises(AnalysisError, match=r"does not fit the model of .*: SystemExit: 0$"):
        open_stored_model(directory)


def test_a_class_that_has_changed_is_named_with_where_its_copy_is(project: Project, tmp_path: Path) -> None:
    project.write(mine=MODEL, policy=POLICY)
    made = composed(tmp_path, "truncation._target_=policy.Mine").model_copy(update={"model": {"_target_": "mine.Mine"}})
    directory = run(made).path
    with pytest.raises(AnalysisError, match=r"config\.yaml: model\._target_ \(=mine\.Mine\) is no class of atbptt"):
        open_stored_model(directory)
    own = Trust(modules=("mine", "policy"))
    assert not open_stored_model(directory, own).remarks
    project.write(policy=POLICY.replace("pass", "self.K += 1"))
    found = open_stored_model(directory, own)
    copy = f"a copy of whose code is in {directory}/source"
    run_of = f"than the run {found.experiment_id}, {copy}"
    assert found.remarks == (f"truncation._target_ (=policy.Mine) has other code {run_of}",)
    project.write(mine=MODEL.replace("6", "7"))
    message = (
        rf"whose class may have changed; model\._target_ \(=mine\.Mine\) has other code {run_of}; trunc.*: size mism"
    )
    with pytest.raises(AnalysisError, match=message):
        open_stored_model(directory, own)
    tables.write(directory / schema.OPTIONS, tables.serialised_options({}))
    project.write(mine=MODEL)
    (remark,) = open_stored_model(directory, Trust(all=True)).remarks  # of an earlier version
    assert remark.endswith("stored no code, as in earlier versions of atbptt: your classes may have changed since")


def test_data_that_have_changed_or_gone(settings: Callable[..., Settings], tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "valid", "test"):
        (data / f"{name}.txt").write_text("a b c a b\n" * 40)
    size = [*(part for part in TINY if not part.startswith("dataset.")), "model.embedding=4", "dataset.batch_size=2"]
    directory = run(settings("dataset=text", f"dataset.path={data}", "epochs=1", size=size)).path
    assert open_stored_model(directory).task.input_size == 4  # a, b, c and the end of a line
    (data / "train.txt").write_text("a b c b b\n" * 40)
    with pytest.raises(AnalysisError, match=rf"dataset\.path \(={data}\) holds other data than the run"):
        open_stored_model(directory)
    (data / "train.txt").unlink()
    with pytest.raises(ValueError, match=r"dataset.*train\.txt"):
        open_stored_model(directory)
