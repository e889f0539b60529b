"""The options of the runs: those that differ, and those that all share."""

from typing import Any

import pandas as pd

from ..statistics import ID, format_value, natural

SHOWN = 12  # values of an option


def configuration(options: pd.DataFrame) -> dict[str, Any]:
    """The options of some runs: those that differ with the number of runs of each value, and those that all share."""
    differences, shared = [], []
    for name in options.columns.drop(ID):
        column = options[name].astype(object).map(format_value).where(options[name].notna(), "not set")
        counts = sorted(column.value_counts(sort=False).items(), key=lambda count: natural(str(count[0])))
        if len(counts) == 1:
            shared.append((name, counts[0][0]))
        else:
            differences.append((name, counts[:SHOWN], max(len(counts) - SHOWN, 0)))
    return {"differences": differences, "shared": sorted(shared)}
