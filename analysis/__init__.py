"""Reads run directories: data frames, statistics, tables, figures, a report. See `python -m analysis --help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.curves import compare as compare
    from analysis.curves import cumulative_best as cumulative_best
    from analysis.curves import mean_curve as mean_curve
    from analysis.errors import AnalysisError as AnalysisError
    from analysis.loading import RunsWarning as RunsWarning
    from analysis.loading import load as load
    from analysis.loading import load_gradients as load_gradients
    from analysis.loading import load_metrics as load_metrics
    from analysis.loading import load_options as load_options
    from analysis.loading import load_positions as load_positions
    from analysis.loading import load_predictions as load_predictions
    from analysis.loading import load_status as load_status
    from analysis.pairs import paired_differences as paired_differences
    from analysis.results import Results as Results
    from analysis.statistics import best_validation as best_validation
    from analysis.statistics import labels as labels
    from analysis.statistics import policies as policies
    from analysis.statistics import settings as settings
    from analysis.statistics import summarize as summarize
    from analysis.targets import summarize_targets as summarize_targets
    from analysis.targets import time_to_target as time_to_target
else:  # pandas takes longer to import than `python -m analysis status` takes in all
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
