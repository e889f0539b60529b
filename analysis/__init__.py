"""Reads run directories: data frames, statistics, tables, figures, a report. See `python -m analysis --help`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.curves import compare, cumulative_best, mean_curve
    from analysis.errors import AnalysisError
    from analysis.loading import (
        RunsWarning,
        load,
        load_gradients,
        load_metrics,
        load_options,
        load_positions,
        load_predictions,
        load_status,
    )
    from analysis.pairs import paired_differences
    from analysis.results import Results
    from analysis.statistics import best_validation, labels, policies, settings, summarize
    from analysis.targets import summarize_targets, time_to_target

# pandas takes longer to import than `python -m analysis status` takes in all: only who uses a name pays for it.
_HOMES = {
    "errors": ("AnalysisError",),
    "loading": (
        "RunsWarning",
        "load",
        "load_gradients",
        "load_metrics",
        "load_options",
        "load_positions",
        "load_predictions",
        "load_status",
    ),
    "results": ("Results",),
    "statistics": ("best_validation", "labels", "policies", "settings", "summarize"),
    "curves": ("compare", "cumulative_best", "mean_curve"),
    "pairs": ("paired_differences",),
    "targets": ("summarize_targets", "time_to_target"),
}

__all__ = [
    "AnalysisError",
    "Results",
    "RunsWarning",
    "best_validation",
    "compare",
    "cumulative_best",
    "labels",
    "load",
    "load_gradients",
    "load_metrics",
    "load_options",
    "load_positions",
    "load_predictions",
    "load_status",
    "mean_curve",
    "paired_differences",
    "policies",
    "settings",
    "summarize",
    "summarize_targets",
    "time_to_target",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"analysis.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
