"""The lag profile phi_k at a few moments of training, with the fitted decay and the K in use."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.runs import Names, by_step, named, option, run_panels
from analysis.figures.style import COLOR_MAP, legend_below, panels, styled
from analysis.statistics import ID

SHADES = (0.05, 0.45, 0.75)  # of the colour map: first, middle, last moment
SHOWN = 1e-12  # of the largest phi: smaller values are not drawn
LABELS = {"x": "lag k (steps)", "y": "gradient norm phi"}
K_IN_USE = {"color": ".3", "marker": "o", "mec": "white", "ms": 7, "ls": ""}
DECAY = {"ls": (0, (3, 2)), "lw": 1.2}


@styled
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
        fitted |= _draw(axes, gradients[gradients[ID] == run], frame, run, with_decay=True)
        axes.legend(fontsize="small", handlelength=1.2)
    keys = [Line2D([], [], label="K in use", **K_IN_USE)]
    if fitted:
        keys.append(Line2D([], [], color=".3", label="fitted decay", **DECAY))
    legend_below(figure, keys)
    return figure


@styled
def component_profiles(gradients: pd.DataFrame, frame: pd.DataFrame, title: str) -> Figure:
    """phi_k of each component of the state (hidden0, cell0, ...) at three moments of one run; a panel for each.

    Arguments and errors as in `lag_profiles`, but for one run.
    """
    run = next(iter(named(gradients, frame, None)))
    gradients = gradients[gradients[ID] == run]
    components = list(gradients["component"].unique())
    figure, each = panels(title, len(components), 2.3, columns=3, sharex=True, sharey=True, **LABELS)
    for axes, component in zip(each, components, strict=True):
        _draw(axes, gradients[gradients["component"] == component], frame, run, with_decay=False)
        axes.set_title("whole state" if component == "all" else str(component))
    each[0].legend(fontsize="small", handlelength=1.2)
    legend_below(figure, [Line2D([], [], label="K in use", **K_IN_USE)])
    return figure


def _draw(axes: Axes, table: pd.DataFrame, frame: pd.DataFrame, run: str, with_decay: bool) -> bool:
    """Draw phi by lag of the first, a middle and the last evaluation; returns whether any decay is visible."""
    K, log_beta = by_step(frame, run, "K"), by_step(frame, run, "log_beta")
    tau, fit_from = option(frame, run, "probe.tau"), option(frame, run, "probe.fit_from")
    epochs = table.groupby("step")["epoch"].first()
    epochs = epochs.iloc[sorted({0, len(epochs) // 2, len(epochs) - 1})]
    fitted = False
    for (step, epoch), shade in zip(epochs.items(), SHADES, strict=False):
        color = colormaps[COLOR_MAP](shade)
        phi = table[table["step"] == step].groupby("lag")["phi"].mean()
        seen = phi[phi > SHOWN * phi.max()]
        label, marker = f"epoch {epoch:.3g}", "." if len(seen) == 1 else None
        axes.semilogy(seen.index, seen, color=color, label=label, lw=1.6, marker=marker)
        if K.get(step) in seen.index:
            axes.plot(K[step], seen[K[step]], **K_IN_USE | {"color": color}, zorder=4)
        if with_decay and tau is not None and tau + 1 in phi.index and np.isfinite(log_beta.get(step, np.nan)):
            # The geometric series through the first lag beyond tau, over the lags of its fit.
            lags = phi.index[phi.index > (tau if fit_from is None else fit_from)]
            decay = phi[tau + 1] * np.exp(log_beta[step] * (lags - tau - 1))
            seen = decay > SHOWN * phi.max()
            axes.plot(lags[seen], decay[seen], color=color, **DECAY)
            fitted |= bool(seen.any())
    return fitted
