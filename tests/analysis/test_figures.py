from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from analysis import AnalysisError, load
from analysis.figures import convergence, highest, save_figures

WriteRun = Callable[..., Path]


def thick(axes: Axes) -> dict[str, list[float]]:
    """The values of the lines of the settings, by label."""
    lines = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    return {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in lines}


def test_lines_are_means_over_init(sweep: Path) -> None:
    figure = convergence(load(sweep), "copy")
    left, right = figure.axes
    lines = thick(left)
    assert list(lines) == ["adaptive delta=0.9", "fixed K=5"]
    assert lines["adaptive delta=0.9"] == pytest.approx([1.4, 1.1, 1.1])
    assert lines["fixed K=5"] == pytest.approx([1.7, 1.4, 1.35])
    assert thick(right) == {"adaptive delta=0.9": [9, 7, 6], "fixed K=5": [5, 5, 5]}
    assert len(left.collections) == 1  # the band of the setting with two runs
    assert len(left.get_lines()) == 2 + 2  # and its two runs
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]
    assert labels == [("epoch", "validation PPL"), ("epoch", "truncation length K (steps)")]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(lines)
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(right.get_window_extent())
    assert left.get_title(loc="left") == ""


def test_the_second_axis_is_logarithmic_from_a_decade_on(root: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [1.5], "K": [2]}, truncation__K=2)
    write_run("b", {"valid_ppl": [1.5], "K": [19]}, truncation__K=19)
    assert convergence(load(root), "").axes[1].get_yscale() == "linear"
    write_run("c", {"valid_ppl": [1.5], "K": [20]}, truncation__K=20)
    assert convergence(load(root), "").axes[1].get_yscale() == "log"


def test_a_colour_per_policy_and_a_dash_per_rest_if_both_vary(root: Path, write_run: WriteRun) -> None:
    for run, (lr, K) in {"a": (1.0, 2), "b": (10.0, 2), "c": (1.0, 8), "d": (10.0, 8)}.items():
        write_run(run, {"valid_ppl": [1.5, 1.4]}, lr=lr, truncation__K=K)
    lines = {str(line.get_label()): line for line in convergence(load(root), "").axes[0].get_lines()}
    colors = {label: to_hex(line.get_color()) for label, line in lines.items()}
    dashes = {label: line.get_linestyle() for label, line in lines.items()}
    assert colors["fixed K=2, lr=1"] == colors["fixed K=2, lr=10"] != colors["fixed K=8, lr=1"]
    assert dashes["fixed K=2, lr=1"] == dashes["fixed K=8, lr=1"] != dashes["fixed K=2, lr=10"]


def test_every_setting_looks_different(root: Path, write_run: WriteRun) -> None:
    for K in range(1, 13):
        write_run(f"{K:x}", {"valid_ppl": [1.5, 1.4]}, truncation__K=K)
    lines = convergence(load(root), "").axes[0].get_lines()
    assert len({(to_hex(line.get_color()), line.get_linestyle()) for line in lines}) == 12


@pytest.mark.parametrize("bad", [1e6, math.inf, math.nan])
def test_a_diverged_run_does_not_squash_the_rest(sweep: Path, write_run: WriteRun, bad: float) -> None:
    write_run("d", {"valid_ppl": [1.8, 1.5, bad], "K": [5, 5, 5]}, init=2)
    left = convergence(load(sweep), "").axes[0]
    assert left.get_ylim() == pytest.approx((1.1 - 0.04, 1.9 + 0.04))  # values from 1.1 to 1.9, and 5% of that
    assert left.get_title(loc="left") == "axis ends at 1.94; beyond it or not a number: 1 of 4 runs"
    (band,) = left.collections
    assert max(path.vertices[:, 0].max() for path in band.get_paths()) == 2  # it ends where the mean leaves


def test_validation_before_training_is_not_drawn(sweep: Path) -> None:
    frame = load(sweep)
    frame["step"] -= 100
    left, right = convergence(frame, "").axes
    assert thick(left) == {"adaptive delta=0.9": [1.1, 1.1], "fixed K=5": pytest.approx([1.4, 1.35])}
    assert thick(right)["adaptive delta=0.9"] == [9, 7, 6]
    start = convergence(frame[frame["step"] == 0], "").axes[0]  # nothing else to draw
    assert thick(start)["adaptive delta=0.9"] == [1.4]


def test_only_diverged_runs(root: Path, write_run: WriteRun) -> None:
    write_run("a", {"valid_ppl": [math.nan, math.inf]})
    assert convergence(load(root), "").axes[0].get_title(loc="left") == "no finite value: 1 of 1 runs"


@pytest.mark.parametrize(
    ("runs", "perplexity", "top"),
    [
        ([[1.0, 1.0], [1.0, 4.9], [1.0, 5.1]], True, 4.9),  # 5 times 1
        ([[100.0, 1.0], [100.0, 1.0, 499.0], [100.0, 1.0, 501.0]], True, 499.0),  # not of the best values
        ([[-4.0, -4.7], [-4.0, -2.5], [-4.0, -2.3]], False, -2.5),  # log 5 = 1.61 above -4
    ],
)
def test_highest(runs: list[list[float]], perplexity: bool, top: float) -> None:
    rows = [(str(run), step, value) for run, values in enumerate(runs) for step, value in enumerate(values)]
    assert highest(pd.DataFrame(rows, columns=["experiment_id", "step", "value"]), perplexity) == top


def test_files_are_whole_and_alone(sweep: Path, write_run: WriteRun, tmp_path: Path) -> None:
    write_run("d", {"valid_loss": [0.5, 0.4]}, dataset="my/linear")
    out = tmp_path / "new" / "figures"
    before = dict(mpl.rcParams)
    paths = save_figures(load(sweep), out)
    assert dict(mpl.rcParams) == before
    stems = ["convergence_copy_fixed", "convergence_my_linear"]
    assert [path.name for path in paths] == [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf")]
    assert sorted(out.iterdir()) == sorted(paths)  # no temporary file is left
    assert all(path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF") for path in paths)
    content = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in save_figures(load(sweep), out)] == content


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(AnalysisError, match="No space left on device"):
        save_figures(load(sweep), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match=r"cannot write .*file/convergence_copy_fixed\.png: "):
        save_figures(load(sweep), tmp_path / "file")
