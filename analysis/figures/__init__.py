"""Figures of runs: all that the data allow by `draw` and `save_figures`, or one by one from frames."""

from analysis.figures.convergence import clocks, convergence
from analysis.figures.drawing import Drawing, draw, save_figures
from analysis.figures.empty import NoDataError
from analysis.figures.maps import lag_maps, position_maps
from analysis.figures.parallel import parallel
from analysis.figures.predictions import intervals, symbols, values
from analysis.figures.profiles import component_profiles, lag_profiles
from analysis.figures.ratios import lag_ratios
from analysis.figures.relative_bias import relative_bias
from analysis.figures.runs import choose_runs
from analysis.figures.saving import render
from analysis.figures.tuning import tuning

__all__ = [
    "Drawing",
    "NoDataError",
    "choose_runs",
    "clocks",
    "component_profiles",
    "convergence",
    "draw",
    "intervals",
    "lag_maps",
    "lag_profiles",
    "lag_ratios",
    "parallel",
    "position_maps",
    "relative_bias",
    "render",
    "save_figures",
    "symbols",
    "tuning",
    "values",
]
