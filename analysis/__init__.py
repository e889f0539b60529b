"""Reads run directories: data frames, statistics, tables, figures. See `python -m analysis --help`."""

from analysis.errors import AnalysisError
from analysis.loading import RunsWarning, load, load_gradients, load_metrics, load_options, load_status
from analysis.statistics import best_validation, labels, mean_curve, policies, settings, summarize

__all__ = [
    "AnalysisError",
    "RunsWarning",
    "best_validation",
    "labels",
    "load",
    "load_gradients",
    "load_metrics",
    "load_options",
    "load_status",
    "mean_curve",
    "policies",
    "settings",
    "summarize",
]
