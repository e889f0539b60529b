"""Figures of runs: all that the data allow with `draw` and `save_figures`, or one by one from frames."""

from .convergence import clocks as clocks, convergence as convergence, relative_bias as relative_bias
from .drawing import (
    Drawing as Drawing,
    draw as draw,
    render as render,
    save as save,
    save_figures as save_figures,
    without_probes as without_probes,
)
from .lags import (
    component_profiles as component_profiles,
    lag_maps as lag_maps,
    lag_profiles as lag_profiles,
    lag_ratios as lag_ratios,
    noise_profiles as noise_profiles,
    position_maps as position_maps,
)
from .predictions import intervals as intervals, symbols as symbols, values as values
from .runs import choose_runs as choose_runs
from .style import (
    COLORS as COLORS,
    NOTE as NOTE,
    REFERENCE as REFERENCE,
    NoDataError as NoDataError,
    log_axis as log_axis,
    panels as panels,
    styled as styled,
)
from .sweeps import parallel as parallel, tuning as tuning
from .trials import trials as trials
