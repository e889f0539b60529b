"""Which options differ between the runs, and which all share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.statistics import ID, format_value, natural

SHOWN = 12  # values of an option


def configuration(options: pd.DataFrame) -> dict[str, Any]:
    """The options of some runs by whether they differ; an option that a run lacks has the value `not set`.

    Arguments:
        options: a row per run, as from `load_options`.

    Returns:
        - `differences`: (name, [(value, runs with it), ...], how many values are left out) of each option that differs;
        - `shared`: (name, value) of the others.
    """
    differences, shared = [], []
    for name in options.columns.drop(ID):
        column = options[name].astype(object).map(format_value).where(options[name].notna(), "not set")
        counts = sorted(column.value_counts(sort=False).items(), key=lambda count: natural(str(count[0])))
        if len(counts) == 1:
            shared.append((name, counts[0][0]))
        else:
            differences.append((name, counts[:SHOWN], max(len(counts) - SHOWN, 0)))
    return {"differences": differences, "shared": sorted(shared)}
