import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pyarrow.parquet as pq
import pytest
import yaml

from atbptt.config.settings import Settings
from atbptt.runs import schema, tables
from atbptt.runs.directory import BusyError, RunDirectory
from atbptt.runs.provenance import Origin
from atbptt.system.files import StorageError
from tests.helpers.projects import POLICY, Project
from tests.helpers.training import composed

Make = Callable[..., RunDirectory]
ORIGIN = Origin("sweep", {"repositories": []}, ["launch.py"])


@pytest.fixture(scope="module")
def composed_once(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return composed(tmp_path_factory.mktemp("unused"), "init=3")


@pytest.fixture
def make(composed_once: Settings, tmp_path: Path) -> Make:
    """`make(epochs=7)` -> the directory of one and the same run, with another budget, as another process has it."""
    return lambda **budget: RunDirectory(composed_once.model_copy(update={"output_dir": str(tmp_path), **budget}))


@pytest.fixture
def directory(make: Make) -> RunDirectory:
    made = make()
    made.make()
    return made


def test_begin_stores_config_and_one_row_of_options(directory: RunDirectory) -> None:
    assert directory.path.parts[-2:] == ("copy_fixed", directory.experiment_id)
    directory.begin(ORIGIN)
    (row,) = pq.read_table(directory.path / schema.OPTIONS).to_pylist()
    assert row["experiment_id"] == directory.experiment_id
    assert (row["init"], row["lr"], row["truncation"], row["truncation.K"]) == (3, 1.0, "fixed", 10)
    assert "seconds" not in row  # null
    stored = json.loads(pq.read_metadata(directory.path / schema.OPTIONS).metadata[schema.OPTIONS_JSON])
    assert stored == row
    assert "init: 3" in (directory.path / schema.CONFIG).read_text()


def finished(directory: RunDirectory) -> RunDirectory:
    directory.make()
    directory.begin(ORIGIN)
    for name in schema.SCHEMAS:
        (directory.path / name).touch()
    directory.finish(epoch=30.0, train_seconds=1.0)
    assert directory.finished()
    return directory


def noted(directory: RunDirectory) -> tuple[object, ...]:
    """Notes and tags as stored: as options, and in the config."""
    (row,) = pq.read_table(directory.path / schema.OPTIONS).to_pylist()
    config = yaml.safe_load((directory.path / schema.CONFIG).read_text())
    return row.get("notes"), row.get("tags"), config["notes"], config["tags"]


def test_notes_and_tags_of_a_finished_run_change_alone(make: Make) -> None:
    directory = make(tags=["night"])
    config, status = ((finished(directory).path / name).read_text() for name in (schema.CONFIG, schema.STATUS))
    row = pq.read_table(directory.path / schema.OPTIONS).to_pylist()
    assert not make().note()  # nothing is asked for
    for settings, expected in (
        ({"notes": "first, try", "epochs": 7.0}, ("first, try", "night", "first, try", ["night"])),
        ({"notes": "", "tags": ["a", "b c"]}, (None, "a, b c", "", ["a", "b c"])),
        ({"notes": None, "tags": []}, (None, None, "", [])),
        ({"tags": ["night"]}, (None, "night", "", ["night"])),
    ):
        other = make(**settings)
        assert (other.note(), other.note()) == (True, False)
        assert directory.finished()
        assert noted(directory) == expected
    assert pq.read_table(directory.path / schema.OPTIONS).to_pylist() == row
    assert (directory.path / schema.CONFIG).read_text() == config.replace("notes: null", "notes: ''")
    changed = json.loads((directory.path / schema.STATUS).read_text())
    assert changed == {**json.loads(status), "files": changed["files"]}
    with directory.lock(), pytest.raises(BusyError):
        make(tags=["b"]).note()


def test_a_run_that_continues_keeps_what_it_is_not_given(make: Make) -> None:
    make(notes="mine", tags=["a", "b"]).make()
    for settings, expected in (
        ({"notes": "mine", "tags": ["a", "b"]}, ("mine", "a, b", "mine", ["a", "b"])),
        ({}, ("mine", "a, b", "mine", ["a", "b"])),
        ({"tags": []}, ("mine", None, "mine", [])),
        ({"notes": "other"}, ("other", None, "other", None)),
    ):
        directory = make(**settings)
        directory.begin(ORIGIN)
        assert noted(directory) == expected


def test_stored_notes_that_are_none_are_nobodys(make: Make) -> None:
    directory = make()
    directory.make()
    tables.write(directory.path / schema.OPTIONS, tables.serialised_options({"notes": 5, "tags": 5}))
    directory.begin(ORIGIN)
    assert noted(directory) == (None, None, None, None)


def test_a_run_is_set_aside_whole_once_a_sweep_and_never_under_another_process(make: Make) -> None:
    """Moves of the same second have names of their own."""
    for number, sweep in enumerate(("2026-01-01_1", "2026-01-02_2", None, None)):
        directory = finished(make())
        anew = replace(ORIGIN, sweep=sweep, rerun=True)
        with directory.lock(), pytest.raises(BusyError):
            make().set_aside(sweep)
        directory.set_aside(sweep)
        assert [path.name for path in directory.path.iterdir()] == []
        assert not directory.begun()
        assert len([*directory.old.iterdir()]) == number + 1
        directory.begin(anew)
        assert directory.begun()
        assert directory.begun_anew(sweep) is (sweep is not None)
    assert all((path / schema.STATUS).exists() for path in directory.old.iterdir())
    assert all(path.name.startswith(f"{directory.experiment_id}.20") for path in directory.old.iterdir())


def test_a_job_that_is_requeued_goes_on_with_what_its_sweep_or_a_later_one_began_anew(make: Make) -> None:
    directory = make()
    directory.make()
    directory.begin(replace(ORIGIN, sweep="2026-01-02_2", rerun=True))
    for sweep in ("2026-01-02_2", "2026-01-01_1"):
        directory.set_aside(sweep)
        directory.begin(replace(ORIGIN, sweep=sweep, rerun=True))
        assert directory.begun_anew("2026-01-02_2")
    assert not directory.begun_anew("2026-01-03_3")
    directory.begin(replace(ORIGIN, sweep="2026-01-04"))  # the same command without rerun=true
    assert directory.begun_anew("2026-01-02_2")
    assert not directory.old.exists()


def test_what_the_process_prints_goes_to_the_new_run(make: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """Its output was the old run's file before."""
    directory = finished(make())
    output = directory.path / schema.OUTPUT
    output.write_text("old\n")
    with capfd.disabled():
        stream = os.dup(1)
        try:
            with open(output, "a") as file:
                os.dup2(file.fileno(), 1)
            directory.set_aside(None)
            os.write(1, b"new\n")
        finally:
            os.dup2(stream, 1)
            os.close(stream)
    (old,) = directory.old.iterdir()
    assert (output.read_text(), (old / schema.OUTPUT).read_text()) == ("new\n", "old\n")


def test_the_code_of_the_users_is_stored_with_the_run(project: Project, tmp_path: Path) -> None:
    """And is no result: a finished run whose copy is damaged is not run again."""
    project.write(mine=f"from parts import helper\n{POLICY}", parts__helper="number = 1  # a comment")
    directory = RunDirectory(composed(tmp_path, "truncation._target_=mine.Mine"))
    source = directory.path / schema.SOURCE
    (source / "parts").mkdir(parents=True)
    for stale in ("parts/gone.py", ".parts.py.host.7.tmp"):
        (source / stale).touch()
    directory.begin(ORIGIN)
    stored = {str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()}
    assert stored == {name: (project.folder / name).read_text() for name in ("mine.py", "parts/helper.py")}
    for name in schema.SCHEMAS:
        (directory.path / name).touch()
    directory.finish(epoch=30.0, train_seconds=1.0)
    (source / "mine.py").write_text("damaged")
    assert directory.finished()


def test_finished_means_the_budget_asked_for_now(make: Make) -> None:
    directory = make(epochs=2.0, seconds=8.0, patience=0.5)
    directory.make()
    for state, epoch, seconds, waited, finished in (
        *(("finished", 2.0, 0.0, 0.0, True), ("finished", 1.5, 9.0, 0.0, True), ("finished", 1.5, 0.0, 0.5, True)),
        *(("finished", 1.5, 0.0, 0.4, False), ("running", 2.0, 0.0, 0.5, False)),
    ):
        directory.finish(epoch=epoch, train_seconds=seconds, waited=waited)
        directory.set_status(state)
        assert directory.finished() is finished


def test_finished_means_that_what_others_read_is_as_it_was_left(directory: RunDirectory) -> None:
    """Also where a byte in the middle of a file has changed."""
    directory.begin(ORIGIN)
    for name in schema.SCHEMAS:
        (directory.path / name).write_bytes(bytes(100))
    directory.set_status(schema.FINISHED, epoch=30.0, train_seconds=1.0)
    assert not directory.finished()  # it did not note what it left
    directory.finish()
    assert directory.finished()
    for path in [directory.path / name for name in (*schema.SCHEMAS, schema.OPTIONS, schema.CONFIG)]:
        content = path.read_bytes()
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
        assert not directory.finished()
        path.unlink()
        assert not directory.finished()
        path.write_bytes(content)
        assert directory.finished()


ENTRIES = ("attempt", "epoch", "train_seconds", "waited", "best", "best_epoch", "K", "files")
BROKEN = [{"state": "finished", **dict.fromkeys(ENTRIES, value)} for value in (None, "x", [], True)]


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", *map(json.dumps, BROKEN)])
def test_a_broken_status_stops_nothing(directory: RunDirectory, text: str) -> None:
    (directory.path / schema.STATUS).write_text(text)
    assert not directory.finished()
    directory.begin(ORIGIN)
    assert directory.status()["attempt"] == 1


def test_a_failure_leaves_traceback_and_reason_and_the_next_attempt_clears_them(directory: RunDirectory) -> None:
    try:
        raise ValueError("too large")
    except ValueError as error:
        directory.fail(error)
    assert directory.status()["error"] == "ValueError: too large"
    assert 'raise ValueError("too large")' in (directory.path / schema.TRACEBACK).read_text()
    (directory.path / ".metrics.parquet.123.tmp").write_text("half")  # of a killed process
    directory.begin(ORIGIN)
    assert (directory.status()["state"], directory.status()["error"]) == ("running", None)
    assert {path.name for path in directory.path.iterdir()} == {schema.STATUS, schema.CONFIG, schema.OPTIONS}


def test_a_run_that_begins_again_keeps_its_progress(directory: RunDirectory, make: Make) -> None:
    directory.begin(ORIGIN)
    directory.set_status(schema.RUNNING, epoch=1.5, best=1.25)
    again = make(epochs=7.0, seconds=5.0)
    again.begin(ORIGIN)
    status = again.status()
    assert status["heartbeat"] > 0
    assert (status["attempt"], status["epoch"], status["best"], status["first_epoch"]) == (2, 1.5, 1.25, 1.5)
    assert (status["epochs"], status["seconds"], status["sweep"]) == (7.0, 5.0, "sweep")
    assert status["elapsed"] < 5


def test_a_killed_run_is_buried_with_its_reason_and_what_it_printed(directory: RunDirectory, make: Make) -> None:
    """But for one that said how it ended, or is held again."""
    other, tried = make(), {"sweep": "sweep", "started": None}
    directory.begin(ORIGIN)
    directory.set_status(schema.RUNNING, epoch=1.5, pid=1, elapsed=7.5)
    with directory.lock():
        other.bury("its process was killed", **tried)
    assert other.status()["state"] == "running"
    other.bury("its process was killed", "line one\nline two", **tried)
    status = other.status()
    assert (status["state"], status["error"], status["epoch"]) == ("failed", "its process was killed", 1.5)
    assert (status["pid"], status["elapsed"]) == (1, 7.5)
    assert (other.path / schema.TRACEBACK).read_text().endswith("printed:\nline one\nline two\n")
    for state in (schema.FINISHED, schema.INTERRUPTED, schema.FAILED):
        directory.set_status(state, error="the reason")
        other.bury("its process was killed", **tried)
        assert (other.status()["state"], other.status()["error"]) == (state, "the reason")


@pytest.mark.parametrize("state", [schema.RUNNING, schema.INTERRUPTED, schema.FAILED, schema.FINISHED])
@pytest.mark.parametrize("held_by", [schema.LOCK, schema.OUTPUT, schema.TRACEBACK])
def test_a_try_that_never_began_is_buried_whatever_the_one_before_has_stored(
    directory: RunDirectory, make: Make, state: str, held_by: str
) -> None:
    """Where a folder is in the place of a file, too; but a finished run stays so."""
    directory.begin(ORIGIN)
    directory.set_status(state, error="SIGTERM", pid=1)
    (directory.path / held_by).mkdir()
    make().bury("no", sweep="later", started=directory.status()["started"])
    status = directory.status()
    expected = ("failed", "no", "later", os.getpid()) if state != schema.FINISHED else (state, "SIGTERM", "sweep", 1)
    assert tuple(status[name] for name in ("state", "error", "sweep", "pid")) == expected


def test_a_directory_that_was_deleted_is_not_made_to_bury_its_run(make: Make) -> None:
    make().bury("no", sweep="sweep", started=None)
    assert not make().path.exists()


def test_a_full_disk_ends_a_run_without_another_error(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started it tells; the log too is cut short without a word."""
    directory.begin(ORIGIN)
    full = Mock(side_effect=StorageError("No space left on device"))
    with directory.logging() as log, monkeypatch.context() as patch:
        patch.setattr("atbptt.runs.directory.write_text", full)
        directory.fail(ValueError("too large"))
        stream = open("/dev/full", "w")  # noqa: SIM115  (the handler closes it)
        log.handlers[0].setStream(stream)  # type: ignore[attr-defined]
        log.info("epoch 3")
    assert directory.status()["state"] == "running"


def test_a_run_is_worked_on_by_one_process(directory: RunDirectory) -> None:
    with directory.lock():
        assert directory.busy()
        with pytest.raises(BusyError, match="is being run by another process"), directory.lock():
            pass
    assert not directory.busy()


def test_a_folder_that_cannot_be_made_is_reported(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/copy_fixed/\w+ cannot be made: Not a directory"):
        make(output_dir=f"{tmp_path}/file").make()


def test_the_log_goes_to_the_runs_file_alone(directory: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    with directory.logging() as log:
        log.info("epoch %d", 3)
    assert (directory.path / schema.LOG).read_text().endswith("epoch 3\n")
    assert capsys.readouterr() == ("", "")


def test_a_logging_configuration_of_someone_else_does_not_silence_the_log(directory: RunDirectory) -> None:
    """As one of Hydra's, which disables the loggers that there are."""
    logging.getLogger(f"atbptt.run.{directory.experiment_id}").disabled = True
    with directory.logging() as log:
        log.info("heard")
    assert (directory.path / schema.LOG).read_text().endswith("heard\n")
