"""Heat maps of phi: over training by lag, and by loss position and lag."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.figures.divergence import trained
from analysis.figures.runs import Names, by_step, run_panels
from analysis.figures.style import COLOR_MAP, NoDataError, edges, log_ticks, outlined, styled, ticks
from analysis.statistics import ID

RANGE = 1e-8  # of the largest phi: smaller values have the darkest colour, and lags with no larger one are not drawn


@styled
def lag_maps(gradients: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """phi_k as colour by epoch and lag, with the K in use drawn over it; a panel for each run.

    Arguments and errors as in `lag_profiles`; runs with one evaluation only are left out.
    """
    gradients = gradients[gradients["component"] == "all"]
    evaluations = gradients.groupby(ID, observed=True)["step"].nunique()
    gradients = gradients[gradients[ID].isin(evaluations.index[evaluations > 1])]
    labels = {"x": "epoch", "y": "lag k, and K (steps)"}
    figure, each = run_panels(gradients, frame, title, names, 2.5, sharex=True, sharey=True, **labels)
    tables = {run: gradients[gradients[ID] == run].pivot_table("phi", ["step", "epoch"], "lag").T for run in each}
    norm, last = _range([table.T for table in tables.values()])
    for run, axes in each.items():
        steps, epochs = (tables[run].columns.get_level_values(name).to_numpy(float) for name in ("step", "epoch"))
        _draw(axes, edges(epochs), edges(tables[run].index.to_numpy(float)), tables[run], norm)
        K = by_step(frame, run, "K").reindex(steps)
        axes.plot(epochs, K, color="white", lw=1.4, path_effects=outlined())
        last = max(last, K.max() + 1)
        axes.set_xlim(0, gradients["epoch"].max())
        axes.set_ylim(0.5, min(last, gradients["lag"].max()) + 0.5)
    _colorbar(figure, list(each.values()), norm)
    return figure


@styled
def position_maps(positions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """phi_k as colour by loss position and lag, mean over the evaluations after training began; a panel for each run.

    Arguments:
        positions: as from `load_positions`, of at most 4 runs.
        frame, title, names: as in `lag_profiles`.

    Raises:
        NoDataError: no positions, or a single one in each run.
        AnalysisError: more than 4 runs.
    """
    groups = positions.groupby(ID, sort=False, observed=True)
    tables = {run: trained(rows).pivot_table("phi", "position", "lag") for run, rows in groups}
    rows = max((len(table) for table in tables.values()), default=0)
    if rows == 1:
        raise NoDataError("probes have a single loss position")
    labels = {"x": "lag k (steps)", "y": "loss position"}
    height = 0.9 + min(0.2 * rows, 2.5)
    figure, each = run_panels(positions, frame, title, names, height, sharex=True, **labels)
    norm, last = _range(list(tables.values()))
    for run, axes in each.items():
        table = tables[run]
        _draw(axes, edges(table.columns.to_numpy(float)), np.arange(len(table) + 1) - 0.5, table, norm)
        ticks(axes.yaxis, [str(position) for position in table.index], most=12)
        axes.set_xlim(0.5, last + 0.5)
    _colorbar(figure, list(each.values()), norm)
    return figure


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, table: pd.DataFrame, norm: LogNorm) -> None:
    """Zero, which has no logarithm, has the darkest colour; NaN and absent values are blank."""
    values = table.to_numpy(float)
    floored = np.where(np.isfinite(values), np.maximum(values, norm.vmin or 0.0), np.nan)
    axes.pcolormesh(x, y, floored, norm=norm, rasterized=True)
    axes.grid(visible=False)


def _colorbar(figure: Figure, each: list[Axes], norm: LogNorm) -> None:
    bar = figure.colorbar(ScalarMappable(norm, COLOR_MAP), ax=each, label="phi", pad=0.01, aspect=25)
    log_ticks(bar.ax.yaxis, float(norm.vmin or 1), float(norm.vmax or 1))


def _range(tables: list[pd.DataFrame]) -> tuple[LogNorm, float]:
    """The colours of phi, and the last lag (column) that has one above the darkest."""
    values = np.concatenate([table.to_numpy().ravel() for table in tables])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise NoDataError("no gradient norm is finite and positive")
    norm = LogNorm(max(values.min(), RANGE * values.max()), values.max())
    return norm, float(max(table.columns[(table >= norm.vmin).any()].max() for table in tables))
