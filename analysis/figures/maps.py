"""Heat maps of phi: over training by lag, and by loss position and lag."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from analysis.figures.divergence import trained
from analysis.figures.empty import NoDataError
from analysis.figures.runs import Names, by_step, named
from analysis.figures.style import COLOR_MAP, edges, log_ticks, more_lines, outlined, panels, styled, ticks
from analysis.statistics import ID

RANGE = 1e-8  # of the largest phi: below, all has the darkest colour, and lags that have nothing else are left out


@styled
def lag_maps(gradients: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """phi_k as colour by epoch and lag, with the K in use drawn over it; a panel for each run.

    Arguments and errors as in `lag_profiles`; runs with one evaluation only are left out.
    """
    gradients = gradients[gradients["component"] == "all"]
    evaluations = gradients.groupby(ID, observed=True)["step"].nunique()
    gradients = gradients[gradients[ID].isin(evaluations.index[evaluations > 1])]
    runs = named(gradients, frame, names)
    figure, each = panels(title, len(runs), 2.5 + more_lines(runs.values()), sharex=True, sharey=True)
    tables = {run: gradients[gradients[ID] == run].pivot_table("phi", ["step", "epoch"], "lag") for run in runs}
    norm, last = _range(list(tables.values()))
    for axes, (run, name) in zip(each, runs.items(), strict=True):
        table = tables[run]
        steps, epochs = table.index.get_level_values("step"), table.index.get_level_values("epoch").to_numpy(float)
        lags = table.columns.to_numpy(float)
        axes.pcolormesh(edges(epochs), edges(lags), _floored(table, norm).T, norm=norm, rasterized=True)
        K = by_step(frame, run, "K").reindex(steps)
        axes.plot(epochs, K, color="white", lw=1.4, path_effects=outlined())
        last = max(last, K.max() + 1)
        axes.set_title(name)
        axes.grid(visible=False)
    each[0].set_xlim(0, gradients["epoch"].max())
    each[0].set_ylim(0.5, min(last, gradients["lag"].max()) + 0.5)
    _colorbar(figure, each, norm)
    for axes in each[::2]:
        axes.set_ylabel("lag k, and K (steps)")
    for axes in each[-2:]:
        axes.set_xlabel("epoch")
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
    runs = named(positions, frame, names)
    tables = {run: trained(positions[positions[ID] == run]).pivot_table("phi", "position", "lag") for run in runs}
    rows = max(len(table) for table in tables.values())
    if rows == 1:
        raise NoDataError("probes have a single loss position")
    height = 0.9 + min(0.2 * rows, 2.5)
    figure, each = panels(title, len(runs), height + more_lines(runs.values()), sharex=True)
    norm, last = _range(list(tables.values()))
    for axes, (run, name) in zip(each, runs.items(), strict=True):
        table = tables[run]
        lags = table.columns.to_numpy(float)
        axes.pcolormesh(edges(lags), np.arange(len(table) + 1) - 0.5, _floored(table, norm), norm=norm, rasterized=True)
        ticks(axes.yaxis, [str(position) for position in table.index], most=12)
        axes.set_title(name)
        axes.grid(visible=False)
    each[0].set_xlim(0.5, last + 0.5)
    _colorbar(figure, each, norm)
    for axes in each[::2]:
        axes.set_ylabel("loss position")
    for axes in each[-2:]:
        axes.set_xlabel("lag k (steps)")
    return figure


def _colorbar(figure: Figure, each: list[Axes], norm: LogNorm) -> None:
    bar = figure.colorbar(ScalarMappable(norm, COLOR_MAP), ax=each, label="phi", pad=0.01, aspect=25)
    log_ticks(bar.ax.yaxis, float(norm.vmin or 1), float(norm.vmax or 1))


def _range(tables: list[pd.DataFrame]) -> tuple[LogNorm, float]:
    """The colours of phi, and the last lag that has one above the darkest."""
    values = np.concatenate([table.to_numpy().ravel() for table in tables])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise NoDataError("no gradient norm is finite and positive")
    norm = LogNorm(max(values.min(), RANGE * values.max()), values.max())
    return norm, float(max(table.columns[(table >= norm.vmin).any()].max() for table in tables))


def _floored(table: pd.DataFrame, norm: LogNorm) -> np.ndarray:
    """Zero has no logarithm: the darkest colour; what is not there or not a number stays blank."""
    values = table.to_numpy(float)
    return np.where(np.isfinite(values), np.maximum(values, norm.vmin or 0.0), np.nan)
