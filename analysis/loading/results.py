"""All that is known of some runs, each part read when it is asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.loading.frames import (
    RunsWarning,
    load,
    load_gradients,
    load_options,
    load_positions,
    load_predictions,
    load_status,
)
from analysis.loading.rows import ID


class Results:
    """The runs at and below some paths.

    Arguments:
        paths: run directories, or folders with runs below them.

    Attributes:
        paths: as given.
        problems: a line for each file or run left out of what was read so far, each once.

    Raises (when a part is read):
        AnalysisError: a path that does not exist, or no run that can be read.
    """

    def __init__(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> None:
        one = isinstance(paths, str | os.PathLike)
        self.paths = [Path(paths)] if one else [Path(path) for path in paths]  # type: ignore[union-attr, arg-type]
        self._problems: dict[str, None] = {}

    @property
    def problems(self) -> list[str]:
        return list(self._problems)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Metrics joined with options, see `load`; empty before the first evaluation."""
        return self._noting_problems(lambda: load(self.paths))

    @cached_property
    def options(self) -> pd.DataFrame:
        """A row per run, see `load_options`."""
        return self._noting_problems(lambda: load_options(self.paths))

    @cached_property
    def status(self) -> pd.DataFrame:
        """A row per run, see `load_status`."""
        return self._noting_problems(lambda: load_status(self.paths))

    def gradients(self, ids: Iterable[str]) -> pd.DataFrame:
        """Lag profiles of these runs, see `load_gradients`: of all runs of a large sweep they would not fit."""
        return self._noting_problems(lambda: load_gradients(self.paths, {ID: set(ids)}))

    def positions(self, ids: Iterable[str]) -> pd.DataFrame:
        """Lag profiles by loss position of these runs, see `load_positions`."""
        return self._noting_problems(lambda: load_positions(self.paths, {ID: set(ids)}))

    def predictions(self, ids: Iterable[str]) -> pd.DataFrame:
        """Targets and predictions of these runs, see `load_predictions`."""
        return self._noting_problems(lambda: load_predictions(self.paths, {ID: set(ids)}))

    def _noting_problems(self, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RunsWarning)
            frame = read()
        for warning in caught:
            if isinstance(warning.message, RunsWarning):
                self._problems.update(dict.fromkeys(warning.message.problems))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return frame
