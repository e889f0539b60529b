"""Which options differ between the runs, and which all share."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.statistics import ID, format_value, natural

VALUES = 12  # of one option, each with its count; of more only the range


@dataclass(frozen=True)
class Difference:
    """An option that differs, with the values that it has and in how many runs; `more` values are left out."""

    name: str
    values: tuple[tuple[str, int], ...]
    more: int


@dataclass(frozen=True)
class Configuration:
    """Options that differ, and those that all runs share, with their value."""

    differences: tuple[Difference, ...]
    shared: tuple[tuple[str, str], ...]


def configuration(options: pd.DataFrame) -> Configuration:
    """The options of some runs by whether they differ.

    An option that a run does not have counts as the value `not set`.

    Arguments:
        options: a row per run, as from `load_options`.
    """
    differences, shared = [], []
    for name in options.columns:
        if name == ID:
            continue
        column = options[name].astype(object).map(format_value).where(options[name].notna(), "not set")
        counts = column.value_counts(sort=False)
        if len(counts) == 1:
            shared.append((name, str(counts.index[0])))
            continue
        values = sorted(((str(value), int(count)) for value, count in counts.items()), key=lambda v: natural(v[0]))
        differences.append(Difference(name, tuple(values[:VALUES]), max(len(values) - VALUES, 0)))
    return Configuration(tuple(differences), tuple(sorted(shared)))
