"""Each notebook runs from top to bottom on a small sweep, and is stored without what it printed."""

import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis" / "notebooks").glob("*.ipynb"))
# Two policies with two initialisations and two learning rates: what every cell needs to have something to show.
SWEEP = ("-m", "truncation=fixed,adaptive", "init=0,1", "lr=1,3", "epochs=2", "model.hidden=16")
STREAMS = ("dataset.train_steps=400", "dataset.valid_steps=200", "dataset.test_steps=200", "dataset.batch_size=8")
PROBE = ("probe.window=40", "probe.tau=30", "probe.burn_in=10")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    command = [sys.executable, str(ROOT / "launch.py"), *SWEEP, *STREAMS, *PROBE, f"output_dir={folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "copy_fixed"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["fixed_against_adaptive", "inside_the_bias", "tour_of_a_sweep"]


def test_it_is_stored_without_output(notebook: NotebookNode) -> None:
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


@pytest.mark.slow
def test_it_runs(notebook: NotebookNode, runs: Path) -> None:
    (parameters,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", []))
    parameters.source = f"path = {str(runs)!r}"
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(cwd=str(ROOT / "analysis" / "notebooks"))  # raises what a cell raises
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no warnings either
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
