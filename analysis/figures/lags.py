"""phi_k, the gradient norm by lag k, of single runs, and what probes say at each K: profiles, heat maps, ratios."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..statistics import ID
from . import style
from .divergence import trained
from .runs import Names, by_step, named, option, run_panels

SHADES = (0.05, 0.45, 0.75)  # of the colour map: first, middle, last moment
SHOWN = 1e-12  # of the largest phi: smaller values are not drawn
LABELS = {"x": "lag k (steps)", "y": "gradient norm phi"}
K_IN_USE: dict[str, Any] = {"color": ".3", "marker": "o", "mec": "white", "ms": 7, "ls": ""}
DECAY: dict[str, Any] = {"ls": (0, (3, 2)), "lw": 1.2}
RANGE = 1e-8  # of the largest phi: smaller values have the darkest colour, and lags with no larger one are not drawn
MOST_BOXES = 20
MOST_COMPONENTS = 30
NOISE = 1e-22  # of the largest phi: no signal, as in the fit of the decay
WHISKERS = (5, 95)  # percent
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of a bin, lags


@style.styled
def lag_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """phi_k against the lag k at the first, a middle and the last evaluation; a panel for each run.

    A dashed line is the fitted geometric decay over the rows of its fit, a point marks the K in use.

    Arguments:
        gradients: as from `load_gradients`, of at most 4 runs.
        frame: as from `load`, with these runs at least.
        title: written above.
        names: `experiment_id` -> title of the run's panel; by default the run's setting.

    Raises:
        NoDataError: no gradients.
        AnalysisError: more than 4 runs.
    """
    gradients = gradients[gradients["component"] == "all"]
    figure, each = run_panels(gradients, frame, title, names, 2.6, sharex=True, sharey=True, **LABELS)
    fitted = False
    for run, axes in each.items():
        fitted |= _draw_moments(axes, gradients[gradients[ID] == run], frame, run, with_decay=True)
        axes.legend(fontsize="small", handlelength=1.2)
    keys = [Line2D([], [], label="K in use", **K_IN_USE)]
    if fitted:
        keys.append(Line2D([], [], color=".3", label="fitted decay", **DECAY))
    style.legend_below(figure, keys)
    return figure


@style.styled
def noise_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Signal to noise of an update at each K, at the first, a middle and the last evaluation; a panel for each run.

    A point marks the K in use; above the dashed line the signal is larger than the noise. Arguments as in
    `lag_profiles`.

    Raises:
        NoDataError: no run has measured it.
        AnalysisError: more than 4 runs.
    """
    gradients = gradients[gradients["component"] == "all"]
    values = gradients["signal_to_noise"]
    gradients = gradients.assign(signal_to_noise=values.where(np.isfinite(values)))
    gradients = gradients[gradients[ID].isin(gradients.loc[values.gt(0) & np.isfinite(values), ID])]
    labels = {"x": "truncation K (steps)", "y": "signal to noise"}
    figure, each = run_panels(gradients, frame, title, names, 2.6, sharex=True, sharey=True, **labels)
    for run, axes in each.items():
        _draw_moments(axes, gradients[gradients[ID] == run], frame, run, with_decay=False, column="signal_to_noise")
        axes.axhline(1.0, **style.REFERENCE)
        axes.legend(fontsize="small", handlelength=1.2)
    style.legend_below(figure, [Line2D([], [], label="K in use", **K_IN_USE)])
    return figure


@style.styled
def component_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str) -> Figure:
    """`lag_profiles` of each component of the state (hidden0, cell0, ...) of one run; a panel for each, at most 30."""
    run = next(iter(named(gradients, frame, None)))
    gradients = gradients[gradients[ID] == run]
    components = list(gradients["component"].unique())[:MOST_COMPONENTS]
    figure, each = style.panels(title, len(components), 2.3, columns=3, sharex=True, sharey=True, **LABELS)
    for axes, component in zip(each, components, strict=True):
        _draw_moments(axes, gradients[gradients["component"] == component], frame, run, with_decay=False)
        axes.set_title("whole state" if component == "all" else style.plain(str(component)))
    each[0].legend(fontsize="small", handlelength=1.2)
    style.legend_below(figure, [Line2D([], [], label="K in use", **K_IN_USE)])
    return figure


def _draw_moments(
    axes: Axes, table: pd.DataFrame, frame: pd.DataFrame, run: str, with_decay: bool, column: str = "phi"
) -> bool:
    """Draw a column by lag of the first, a middle and the last evaluation; returns whether any decay is visible."""
    K, log_beta = by_step(frame, run, "K"), by_step(frame, run, "log_beta")
    tau, fit_from = option(frame, run, "probe.tau"), option(frame, run, "probe.fit_from")
    epochs = table.groupby("step")["epoch"].first()
    epochs = epochs.iloc[sorted({0, len(epochs) // 2, len(epochs) - 1})]
    fitted = False
    for step, shade in zip(epochs.index, SHADES, strict=False):
        color = colormaps[style.COLOR_MAP](shade)
        values = table[table["step"] == step].groupby("lag")[column].mean()
        shown = values > SHOWN * values.max()
        seen = values[shown]
        label, marker = f"epoch {epochs[step]:.3g}", "." if len(seen) == 1 else None
        drawn = values.where(shown).loc[seen.index.min() : seen.index.max()] if len(seen) else seen  # with gaps
        axes.semilogy(drawn.index, drawn, color=color, label=label, lw=1.6, marker=marker)
        if K.get(step) in seen.index:
            axes.plot(K[step], seen[K[step]], **K_IN_USE | {"color": color}, zorder=4)
        if with_decay and tau is not None and tau + 1 in values.index and np.isfinite(log_beta.get(step, np.nan)):
            # The geometric series through the first lag beyond tau, over the lags of its fit.
            lags = values.index[values.index > (tau if fit_from is None else fit_from)]
            decay = values[tau + 1] * np.exp(log_beta[step] * (lags - tau - 1))
            shown = decay > SHOWN * values.max()
            axes.plot(lags[shown], decay[shown], color=color, **DECAY)
            fitted |= bool(shown.any())
    return fitted


@style.styled
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
        _draw_map(axes, style.edges(epochs), style.edges(tables[run].index.to_numpy(float)), tables[run], norm)
        K = by_step(frame, run, "K").reindex(steps)
        axes.plot(epochs, K, color="white", lw=1.4, path_effects=style.outlined())
        last = max(last, K.max() + 1)
        axes.set_xlim(0, gradients["epoch"].max())
        axes.set_ylim(0.5, min(last, gradients["lag"].max()) + 0.5)
    _colorbar(figure, list(each.values()), norm)
    return figure


@style.styled
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
        raise style.NoDataError("probes have a single loss position")
    labels = {"x": "lag k (steps)", "y": "loss position"}
    height = 0.9 + min(0.2 * rows, 2.5)
    figure, each = run_panels(positions, frame, title, names, height, sharex=True, **labels)
    norm, last = _range(list(tables.values()))
    for run, axes in each.items():
        table = tables[run]
        _draw_map(axes, style.edges(table.columns.to_numpy(float)), np.arange(len(table) + 1) - 0.5, table, norm)
        style.ticks(axes.yaxis, [str(position) for position in table.index], most=12)
        axes.set_xlim(0.5, last + 0.5)
    _colorbar(figure, list(each.values()), norm)
    return figure


def _draw_map(axes: Axes, x: np.ndarray, y: np.ndarray, table: pd.DataFrame, norm: LogNorm) -> None:
    """Zero, which has no logarithm, has the darkest colour; NaN and absent values are blank."""
    values = table.to_numpy(float)
    floored = np.where(np.isfinite(values), np.maximum(values, norm.vmin or 0.0), np.nan)
    axes.pcolormesh(x, y, floored, norm=norm, rasterized=True)
    axes.grid(visible=False)


def _colorbar(figure: Figure, each: list[Axes], norm: LogNorm) -> None:
    bar = figure.colorbar(ScalarMappable(norm, style.COLOR_MAP), ax=each, label="phi", pad=0.01, aspect=25)
    style.log_ticks(bar.ax.yaxis, float(norm.vmin or 1), float(norm.vmax or 1))


def _range(tables: list[pd.DataFrame]) -> tuple[LogNorm, float]:
    """The colours of phi, and the last lag (column) that has one above the darkest."""
    values = np.concatenate([table.to_numpy().ravel() for table in tables])
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        raise style.NoDataError("no gradient norm is finite and positive")
    norm = LogNorm(max(values.min(), RANGE * values.max()), values.max())
    return norm, float(max(table.columns[(table >= norm.vmin).any()].max() for table in tables))


@style.styled
def lag_ratios(positions: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """Box plots of phi_{k+1} / phi_k by lag, over loss positions, probes and evaluations after training began.

    Boxes are quartiles, whiskers reach from the 5 % to the 95 % quantile; many lags are binned. Lines at 1, and at the
    beta of the fitted decay (median over evaluations).

    Arguments and errors as in `position_maps`.
    """
    ratios = {run: successive_ratios(trained(rows)) for run, rows in positions.groupby(ID, sort=False, observed=True)}
    ratios = {run: found for run, found in ratios.items() if len(found)}
    if not ratios:
        raise style.NoDataError("no two successive lags have a gradient")
    most = max(found["lag"].max() for found in ratios.values())
    width = next((width for width in WIDTHS if most <= width * MOST_BOXES), WIDTHS[-1])
    x = "lag k (steps)" + (f", in bins of {width}" if width > 1 else "")
    shown = positions[positions[ID].isin(list(ratios))]
    options = {"x": x, "y": "phi ratio, k+1 to k", "sharex": True, "sharey": True}
    figure, each = run_panels(shown, frame, title, names, 2.5, **options)
    color = {"color": style.COLORS[0]}
    ends, fitted = [], False
    for run, axes in each.items():
        bins = dict(list(ratios[run].groupby((ratios[run]["lag"] - 1) // width)["ratio"]))
        axes.boxplot(
            list(bins.values()),
            positions=[number * width + (width + 1) / 2 for number in bins],
            widths=0.7 * width,
            whis=WHISKERS,
            showfliers=False,
            manage_ticks=False,
            patch_artist=True,
            boxprops={"facecolor": (*style.COLORS[0], 0.25), "edgecolor": style.COLORS[0]},
            medianprops=color | {"lw": 1.6},
            whiskerprops=color,
            capprops=color,
        )
        ends += [np.percentile(box, WHISKERS) for box in bins.values()]
        axes.axhline(1, **style.REFERENCE)
        log_beta = trained(by_step(frame, run, "log_beta").reset_index())["value"]
        log_beta = log_beta[np.isfinite(log_beta)]
        if len(log_beta):
            fitted = True
            axes.axhline(float(np.exp(log_beta.median())), color=style.ACCENT, lw=1.4, zorder=2.5)
    for axes in each.values():
        style.scale(axes.yaxis, np.concatenate(ends))
    if fitted:
        style.legend_below(figure, [Line2D([], [], color=style.ACCENT, lw=1.4, label="beta of the fitted decay")])
    return figure


def successive_ratios(positions: pd.DataFrame) -> pd.DataFrame:
    """`lag` k and `ratio` phi_{k+1} / phi_k for every two successive lags of one run that both carry a signal."""
    keys = ["step", "replicate", "position"]
    rows = positions.sort_values([*keys, "lag"], kind="stable")
    # NaN carries no signal, nor does a tiny share of a profile's largest phi.
    phi = rows["phi"].where(rows["phi"] > NOISE * rows.groupby(keys)["phi"].transform("max"))
    following = phi.shift(-1).where(
        (rows[[*keys, "lag"]].shift(-1) == rows[[*keys, "lag"]].assign(lag=rows["lag"] + 1)).all(axis=1)
    )
    return pd.DataFrame({"lag": rows["lag"], "ratio": following / phi}).dropna().reset_index(drop=True)
