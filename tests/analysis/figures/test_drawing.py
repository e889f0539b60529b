import math
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

from analysis import AnalysisError
from analysis.figures import clocks, convergence, draw, parallel, render, save_figures, without_probes
from analysis.figures.lines import choose_lines
from analysis.loading import Results
from atbptt.system import StorageError
from tests.helpers import made_runs as made

CURVES = ["convergence_copy", "clocks_copy"]
CATEGORIES = dict.fromkeys(("metric", "dataset", "truncation"), "category")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the pixels takes less time."""
    monkeypatch.setattr("analysis.figures.drawing.DPI", 40)


def names_of(results: Results) -> list[str]:
    return [drawing.name for drawing in draw(results)]


def test_all_that_there_are_in_a_fixed_order() -> None:
    runs = [made.fixed_and_adaptive()]
    runs += [made.run(f"{lr}", {"valid_ppl": [6, 1.5], "K": [9, 9]}, lr=lr, truncation__K=9) for lr in (1.0, 3.0)]
    runs.append(made.run("e", {"valid_ppl": [6, 1.5], "K": [5, 5]}, lr=3.0))
    quantities = [("symbol", [1, 2]), ("interval", [0.1, 2.0]), ("event", [1, 2]), ("value", [0.1, -2.0])]
    results = made.results(
        *runs,
        gradients=pd.concat([made.gradients("a"), made.gradients("c")]),
        positions=made.positions("c"),
        predictions=pd.concat([made.predictions("c", name, target, target) for name, target in quantities]),
    )
    drawings = list(draw(results))
    stems = (
        "convergence clocks relative_bias lr_by_K parallel lag_profiles noise_profiles components lag_maps "
        "position_maps lag_ratios symbols intervals values"
    )
    assert [drawing.name for drawing in drawings] == [f"{stem}_copy" for stem in stems.split()]
    for drawing in drawings:
        assert drawing.title
        assert drawing.caption.endswith(".")
        assert "  " not in drawing.caption
        drawing.figure.draw_without_rendering()


def test_figures_of_probes_are_of_the_runs_that_have_some() -> None:
    """Of each policy the better run has none."""
    bias = {"log_relative_bias": [0.0, 0.0]}
    runs = [
        made.run(f"{K}{probe}", {"valid_ppl": [6, best - K / 100], **logged}, truncation__K=K, init=init, probe=probe)
        for K in (2, 5)
        for probe, best, init, logged in (("none", 1.1, 0, {}), ("default", 1.5, 1, bias))
    ]
    tables = {"positions": made.positions("5default"), "predictions": made.predictions("5none", "symbol", [1], [1])}
    results = made.results(*runs, gradients=made.gradients("5default"), **tables)
    drawn = {drawing.name: drawing.figure for drawing in draw(results)}
    of_probes = ("relative_bias", "lag_profiles", "noise_profiles", "components", "lag_maps")
    assert [*drawn] == [*CURVES, *(f"{name}_copy" for name in (*of_probes, "position_maps", "lag_ratios", "symbols"))]
    assert drawn["lag_profiles_copy"].axes[0].get_title("left") == "fixed K=5"
    assert without_probes(results.options).startswith("without probes (probe=none): 2 of 4 runs, of which no figure")
    alone = made.results(*runs[::2], predictions=tables["predictions"])
    assert names_of(alone) == [*CURVES, "symbols_copy"]
    assert without_probes(alone.options).startswith("without probes (probe=none): all runs, ")
    assert without_probes(made.results(*runs[1::2]).options) == ""
    assert without_probes(made.results(made.fixed_and_adaptive()).options) == ""


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([made.fixed_and_adaptive().astype(CATEGORIES)], [*CURVES, "relative_bias_copy"]),
        ([made.run("a", {"valid_ppl": [6.0], "K": [5]})], CURVES),
        ([made.run("a", {"valid_ppl": [math.nan, math.inf], "K": [5, 5]})], CURVES),
        (
            [made.run(name, {"valid_ppl": [6.0]}, dataset=name) for name in ("b/c", "a")],
            ["convergence_a", "clocks_a", "convergence_b_c", "clocks_b_c"],
        ),
    ],
    ids=["texts as categories", "one run before training", "one that diverged", "two data sets"],
)
def test_of_metrics_alone(runs: list[pd.DataFrame], expected: list[str]) -> None:
    assert names_of(made.results(*runs)) == expected


def test_names_are_drawn_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.figures.drawing.FORMATS", ("png",))
    # Two dollar signs would be a formula, of which the second is none; the font has no Chinese.
    names = [r"$\frac{$", "a$b$c", "\u6f22\x1b" + 9999 * "a"]  # the best first
    runs = [
        made.run(f"{name}{lr}", {"valid_ppl": [6, lr + place], "K": [5, 5]}, lr=lr, name=name, dataset="$d$")
        for place, name in enumerate(names)
        for lr in (1.0, 2)
    ]
    gradients = made.gradients(names[0] + "1.0").replace("hidden0", names[0])
    results = made.results(*runs, gradients=gradients)
    paths = save_figures(results, tmp_path)
    assert [path.name for path in paths] == [
        f"{stem}__d_.png"
        for stem in ("convergence", "clocks", "parallel", "lag_profiles", "noise_profiles", "components", "lag_maps")
    ]
    figure = next(draw(results)).figure
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert r"fixed K=5, lr=1, name=a\$b\$c" in texts  # matplotlib draws an escaped dollar sign as one
    metric = r"valid_$\frac$"
    frame = made.sweep(*runs).replace("valid_ppl", metric)
    lines = choose_lines(frame, metric)
    for figure in (convergence(frame, "", lines), clocks(frame, "", lines), parallel(frame, "", metric)):
        render(figure)


def test_numbers_that_no_axis_takes_are_gaps() -> None:
    largest, smallest = 1.7e308, 5e-324
    results = made.results(
        made.run("a", {"valid_ppl": [6, 1.5, largest], "K": [5, 5, 5]}),
        gradients=made.gradients("a").replace({"phi": {0.5: largest, 0.25: smallest}}),
        positions=made.positions("a").replace({"phi": {0.5: largest, 0.25: smallest}}),
        predictions=pd.concat(
            made.predictions("a", name, [largest, 1.0, 2.0], [smallest, -largest, 1.0])
            for name in ("interval", "value")
        ),
    )
    drawings = list(draw(results))
    assert {"lag_maps_copy", "intervals_copy", "values_copy"} < {each.name for each in drawings}
    for drawing in drawings:
        drawing.figure.draw_without_rendering()


def test_nothing_before_the_first_evaluation(tmp_path: Path) -> None:
    for frame in (made.fixed_and_adaptive().iloc[:0], made.run("a", {"K": [5]})):
        assert names_of(made.results(frame)) == []
        with pytest.raises(AnalysisError, match="no validation metric"):
            save_figures(made.results(frame), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_are_whole_alone_and_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = made.results(made.run("a", {"valid_ppl": [6, 1.5]}))
    out = tmp_path / "new" / "figures"
    paths = save_figures(results, out)
    assert [path.name for path in paths] == [f"{stem}.{suffix}" for stem in CURVES for suffix in ("png", "pdf")]
    assert sorted(out.iterdir()) == sorted(paths)  # no temporary file is left
    content = [path.read_bytes() for path in paths]
    assert [one[:4] for one in content] == [b"\x89PNG", b"%PDF"] * 2
    assert [path.read_bytes() for path in save_figures(results, out)] == content
    monkeypatch.setattr("os.replace", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left on device"):
        save_figures(results, tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []
    with pytest.raises(AnalysisError, match=r"png: is a file; give a folder to write to$"):
        save_figures(results, paths[0])
