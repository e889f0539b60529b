"""Figures of runs: all that the data allow with `draw` and `save_figures`, or one by one from frames."""

# At once, not when used: a function of the name of its file would be hidden by the file.
from analysis.figures.convergence import clocks as clocks, convergence as convergence
from analysis.figures.drawing import (
    Drawing as Drawing,
    draw as draw,
    render as render,
    save as save,
    save_figures as save_figures,
)
from analysis.figures.maps import lag_maps as lag_maps, position_maps as position_maps
from analysis.figures.parallel import parallel as parallel
from analysis.figures.predictions import intervals as intervals, symbols as symbols, values as values
from analysis.figures.profiles import component_profiles as component_profiles, lag_profiles as lag_profiles
from analysis.figures.ratios import lag_ratios as lag_ratios
from analysis.figures.relative_bias import relative_bias as relative_bias
from analysis.figures.runs import choose_runs as choose_runs
from analysis.figures.style import (
    COLORS as COLORS,
    NOTE as NOTE,
    REFERENCE as REFERENCE,
    NoDataError as NoDataError,
    log_axis as log_axis,
    panels as panels,
    styled as styled,
)
from analysis.figures.tuning import tuning as tuning
