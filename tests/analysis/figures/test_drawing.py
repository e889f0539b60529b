from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.figures import draw, save_figures
from analysis.loading import Results
from atbptt.system import StorageError
from tests.helpers import made_runs as made

WriteRun = Callable[..., Path]


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the pixels takes less time."""
    monkeypatch.setattr("analysis.figures.drawing.DPI", 40)


def made_results(frame: pd.DataFrame, **tables: pd.DataFrame) -> Results:
    """Results that are in memory."""

    def rows_of(name: str) -> Callable[[Any], pd.DataFrame]:
        table = tables.get(name, made.gradients("none").iloc[:0].assign(position=0, quantity=""))
        return lambda ids: table[table["experiment_id"].isin(list(ids))]

    stored = {name: rows_of(name) for name in ("gradients", "positions", "predictions")}
    return cast(Results, SimpleNamespace(frame=frame, **stored))


def names(results: Results) -> list[str]:
    return [drawing.name for drawing in draw(results)]


def test_all_that_there_are_in_a_fixed_order() -> None:
    runs = [made.fixed_and_adaptive()]
    runs += [made.run(f"{lr}", {"valid_ppl": [6, 1.5], "K": [9, 9]}, lr=lr, truncation__K=9) for lr in (1.0, 3.0)]
    runs.append(made.run("e", {"valid_ppl": [6, 1.5], "K": [5, 5]}, lr=3.0))
    quantities = [("symbol", [1, 2]), ("interval", [0.1, 2.0]), ("event", [1, 2]), ("value", [0.1, -2.0])]
    results = made_results(
        made.sweep(*runs),
        gradients=pd.concat([made.gradients("a"), made.gradients("c")]),
        positions=made.positions("c"),
        predictions=pd.concat([made.predictions("c", name, target, target) for name, target in quantities]),
    )
    drawings = list(draw(results))
    stems = (
        "convergence clocks relative_bias lr_by_K parallel lag_profiles components lag_maps position_maps lag_ratios "
        "symbols intervals values"
    )
    assert [drawing.name for drawing in drawings] == [f"{stem}_copy" for stem in stems.split()]
    for drawing in drawings:
        assert drawing.title
        assert drawing.caption.endswith(".")
        assert "  " not in drawing.caption
        drawing.figure.draw_without_rendering()


def test_metrics_alone_with_text_as_categories() -> None:
    frame = made.fixed_and_adaptive().astype(dict.fromkeys(("metric", "dataset", "truncation"), "category"))
    assert names(made_results(frame)) == ["convergence_copy", "clocks_copy", "relative_bias_copy"]


def test_a_file_for_each_dataset() -> None:
    runs = [made.run(name, {"valid_ppl": [6.0]}, dataset=name) for name in ("b/c", "a")]
    stems = [f"{kind}_{data}" for data in ("a", "b_c") for kind in ("convergence", "clocks")]
    assert names(made_results(made.sweep(*runs))) == stems


def test_names_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.figures.drawing.FORMATS", ("png",))
    # Two dollar signs would be a formula, of which the second is none; the font has no Chinese.
    names = [r"$\frac{$", "a$b$c", "\u6f22"]  # the best first
    runs = [
        made.run(f"{name}{lr}", {"valid_ppl": [6, lr + place], "K": [5, 5]}, lr=lr, name=name, dataset="$d$")
        for place, name in enumerate(names)
        for lr in (1.0, 2)
    ]
    results = made_results(made.sweep(*runs), gradients=made.gradients(names[0] + "1.0"))
    paths = save_figures(results, tmp_path)
    assert [path.name for path in paths] == [
        f"{stem}__d_.png" for stem in ("convergence", "clocks", "parallel", "lag_profiles", "components", "lag_maps")
    ]
    figure = next(draw(results)).figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert r"fixed K=5, lr=1, name=a\$b\$c" in texts  # matplotlib draws an escaped dollar sign as one


def test_one_run_before_training_and_one_that_diverged() -> None:
    assert names(made_results(made.sweep(made.run("a", {"valid_ppl": [6.0], "K": [5]})))) == [
        "convergence_copy",
        "clocks_copy",
    ]
    lost = made_results(made.sweep(made.run("a", {"valid_ppl": [math.nan, math.inf], "K": [5, 5]})))
    assert names(lost) == ["convergence_copy", "clocks_copy"]


def test_nothing_before_the_first_evaluation(tmp_path: Path) -> None:
    for frame in (made.fixed_and_adaptive().iloc[:0], made.sweep(made.run("a", {"K": [5]}))):
        assert names(made_results(frame)) == []
        with pytest.raises(AnalysisError, match="no validation metric"):
            save_figures(made_results(frame), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_whole_alone_and_the_same_again(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures"
    paths = save_figures(Results(sweep), out)
    stems = ("convergence_copy_fixed", "clocks_copy_fixed")
    assert [path.name for path in paths] == [f"{stem}.{suffix}" for stem in stems for suffix in ("png", "pdf")]
    assert sorted(out.iterdir()) == sorted(paths)  # no temporary file is left
    assert all(path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF") for path in paths)
    content = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in save_figures(Results(sweep), out)] == content


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save_figures(Results(sweep), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AnalysisError, match=r"/file: is a file; give a folder to write to$"):
        save_figures(Results(sweep), tmp_path / "file")
