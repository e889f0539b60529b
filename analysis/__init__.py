"""Reads run directories: data frames, statistics, tables, figures. See `python -m analysis --help`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def __getattr__(name: str) -> object:
    # pandas takes longer to import than `python -m analysis status` takes in all: only who uses a name pays for it.
    if name in __all__:
        for home in ("errors", "loading", "statistics"):
            module = importlib.import_module(f"analysis.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
