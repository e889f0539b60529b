"""The lag profile phi_k at a few moments of training, with the fitted decay and the chosen K."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.runs import Names, by_step, named, option
from analysis.figures.style import COLOR_MAP, legend_below, more_lines, panels, styled
from analysis.statistics import ID

SHADES = (0.05, 0.45, 0.75)  # of the colour map: first, middle, last moment
SHOWN = 1e-12  # of the largest phi: below, nothing is of consequence
PHI = "gradient norm phi"


@styled
def lag_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str, names: Names | None = None) -> Figure:
    """phi_k against the lag k at the first, a middle and the last evaluation; a panel for each run.

    A dashed line is the fitted geometric decay over the rows of its fit, a point marks the K in use.

    Arguments:
        gradients: as from `load_gradients`, of at most 4 runs.
        frame: as from `load`, with these runs at least.
        title: written above.
        names: `experiment_id` -> what its panel is called; the run's setting by default.

    Raises:
        NoDataError: no gradients.
        AnalysisError: more than 4 runs.
    """
    gradients = gradients[gradients["component"] == "all"]
    runs = named(gradients, frame, names)
    figure, each = panels(title, len(runs), 2.6 + more_lines(runs.values()), sharex=True, sharey=True)
    fitted = False
    for axes, (run, name) in zip(each, runs.items(), strict=True):
        profiles = _moments(gradients[gradients[ID] == run])
        K, log_beta = by_step(frame, run, "K"), by_step(frame, run, "log_beta")
        tau, fit_from = option(frame, run, "probe.tau"), option(frame, run, "probe.fit_from")
        for (step, epoch), phi, shade in profiles:
            color = colormaps[COLOR_MAP](shade)
            _profile(axes, phi, f"epoch {epoch:.3g}", color, K.get(step))
            if tau is not None and step in log_beta.index:
                fitted |= _decay(axes, phi, int(tau), int(tau if fit_from is None else fit_from), log_beta[step], color)
        axes.set_title(name)
        axes.legend(fontsize="small", handlelength=1.2)
    _label(each)
    legend_below(figure, _keys(fitted))
    return figure


@styled
def component_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str) -> Figure:
    """phi_k of each component of the state (hidden0, cell0, ...) at three moments of one run; a panel for each.

    Arguments and errors as in `lag_profiles`, but for one run.
    """
    runs = named(gradients, frame, None)
    run = next(iter(runs))
    gradients = gradients[gradients[ID] == run]
    components = list(gradients["component"].unique())
    figure, each = panels(title, len(components), 2.3, columns=3, sharex=True, sharey=True)
    K = by_step(frame, run, "K")
    for axes, component in zip(each, components, strict=True):
        for (step, epoch), phi, shade in _moments(gradients[gradients["component"] == component]):
            _profile(axes, phi, f"epoch {epoch:.3g}", colormaps[COLOR_MAP](shade), K.get(step))
        axes.set_title("whole state" if component == "all" else str(component))
    each[0].legend(fontsize="small", handlelength=1.2)
    _label(each, columns=3)
    legend_below(figure, _keys(False))
    return figure


def _moments(table: pd.DataFrame) -> list[tuple[tuple[int, float], pd.Series, float]]:
    """Step and epoch, phi by lag, and shade, of the first, a middle and the last evaluation."""
    steps = table[["step", "epoch"]].drop_duplicates("step").sort_values("step").to_numpy(float)
    chosen = sorted({0, len(steps) // 2, len(steps) - 1})
    moments = []
    for index, shade in zip(chosen, SHADES, strict=False):
        step, epoch = steps[index]
        phi = table[table["step"] == step].groupby("lag")["phi"].mean()
        moments.append(((int(step), epoch), phi, shade))
    return moments


def _profile(axes: Axes, phi: pd.Series, label: str, color: object, K: float | None) -> None:
    seen = phi[phi > SHOWN * phi.max()]
    axes.semilogy(seen.index, seen, color=color, label=label, lw=1.6, marker="." if len(seen) == 1 else None)
    if K is not None and K in seen.index:
        axes.plot(K, seen[K], "o", color=color, mec="white", ms=7, zorder=4)


def _decay(axes: Axes, phi: pd.Series, tau: int, fit_from: int, log_beta: float, color: object) -> bool:
    """The geometric series through the first lag beyond tau, over the lags of its fit."""
    if not np.isfinite(log_beta) or tau + 1 not in phi.index:
        return False
    lags = phi.index[phi.index > fit_from]
    decay = phi[tau + 1] * np.exp(log_beta * (lags - tau - 1))
    seen = decay > SHOWN * phi.max()
    axes.plot(lags[seen], decay[seen], color=color, ls=(0, (3, 2)), lw=1.2)
    return bool(seen.any())


def _label(each: list[Axes], columns: int = 2) -> None:
    for axes in each[::columns]:
        axes.set_ylabel(PHI)
    for axes in each[-columns:]:
        axes.set_xlabel("lag k (steps)")


def _keys(fitted: bool) -> list[Line2D]:
    keys = [Line2D([], [], color=".3", marker="o", mec="white", ms=7, ls="", label="K in use")]
    if fitted:
        keys.append(Line2D([], [], color=".3", ls=(0, (3, 2)), lw=1.2, label="fitted decay"))
    return keys
