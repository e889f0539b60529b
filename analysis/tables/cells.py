"""Tables before they have a format: columns, cells, notes; and how their numbers are written."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import pandas as pd

from ..statistics import LEAST_RUNS, LEVEL, Group, as_good_as_best, format_value, is_perplexity

MOST_PLACES = 6  # behind the point: beyond, digits are noise of single precision
HEADINGS = {"name": "experiment"}  # of options whose name alone is unclear


@dataclass(frozen=True)
class Column:
    heading: str
    names: Sequence[str]  # of the values that a cell is made of
    text: Callable[..., str] = format_value  # of a cell, from these values in this order
    align: Literal["left", "right"] = "right"
    bold: str = ""  # name of the values that tell which cells are marked


class Cell(NamedTuple):
    text: str
    bold: bool


@dataclass(frozen=True)
class Table:
    """A table in no format yet."""

    name: str  # for files and labels, `published_ptb_ptb_ppl`
    title: str
    columns: Sequence[Column]
    frame: pd.DataFrame  # a row per row of the table, with the values that `columns` name
    notes: Sequence[str] = ()
    # What all rows have in common, `experiment`, `dataset` and `metric`: the first columns of a CSV file.
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[tuple[Cell, ...]]:
        cells = []
        for column in self.columns:
            parts = zip(*(self.frame[name].tolist() for name in column.names), strict=True)
            marks = self.frame[column.bold].tolist() if column.bold else [False] * len(self.frame)
            cells.append([Cell(column.text(*part), bold) for part, bold in zip(parts, marks, strict=True)])
        return list(zip(*cells, strict=True))


def assembled(
    group: Group, suffix: str, title: str, columns: Sequence[Column], values: pd.DataFrame, notes: Sequence[str] = ()
) -> Table:
    """A table of a group's runs: its name and title begin with the group's."""
    experiment = "" if group.experiment in ("unknown", group.dataset) else f"{group.experiment}, "
    title = f"{experiment}dataset {group.dataset}: {title}"
    return Table(group.name + suffix, title, columns, values, notes, group.keys)


def setting_columns(rows: pd.DataFrame, names: Iterable[str]) -> list[Column]:
    """A column for the policy and each option that differs between settings; numbers are on the right."""
    numeric = pd.api.types.is_numeric_dtype
    return [Column(HEADINGS.get(n, n), [n], align="right" if numeric(rows[n]) else "left") for n in names]


def with_bold(
    rows: pd.DataFrame, runs: pd.DataFrame, names: Sequence[str], fixed: Sequence[str], values: Iterable[str]
) -> pd.DataFrame:
    """The rows (settings, told apart by `names`) with a column `<value>_bold` for each value of the runs.

    It is true where the setting cannot be told from the best one under the same conditions `fixed`, see
    `as_good_as_best`; false where there is no other.
    """
    runs = runs.merge(rows[[*names]].assign(row=rows.index), on=[*names])
    groups = list(runs.groupby(["metric", *fixed], dropna=False, observed=True))
    for value in values:
        marks = pd.Series(False, index=rows.index)
        for (metric, *_), own in groups:
            by_init = own.pivot_table(value, "init", "row", observed=True)
            if len(by_init.columns) > 1:
                marks |= as_good_as_best(by_init, is_perplexity(str(metric))).reindex(rows.index, fill_value=False)
        rows = rows.assign(**{f"{value}_bold": marks})
    return rows


def mean_over(replicates: str, sd: pd.Series) -> str:
    """`, mean (sd) over init` for the title of a table; nothing where every row is one run."""
    return f", mean (sd) over {replicates}" if sd.notna().any() else ""


def moments(name: str) -> list[str]:
    """The columns of the `estimates` of a value: mean, sd, and the ends of the interval."""
    return [f"{name}_{part}" for part in ("mean", "sd", "low", "high")]


def interval_column(
    rows: pd.DataFrame, name: str, runs: str, text: Callable[..., str], heading: str = f"{LEVEL:.0%} interval"
) -> list[Column]:
    """A column for the interval of the mean, if any row has enough runs (in column `runs`) to show it."""
    return [Column(heading, [*moments(name), runs], text)] if (rows[runs] >= LEAST_RUNS).any() else []


def mean_sd(mean: float, sd: float, *_: float) -> str:
    """`1.036 (0.004)`: four significant digits of the mean, or up to the first of the sd; blank for NaN."""
    return _with_sd(mean, sd, _style(mean, sd))


def interval(mean: float, sd: float, low: float, high: float, runs: int) -> str:
    """`[1.032, 1.040]`: as many places as `mean_sd`; blank for NaN or too few runs."""
    return _ends(low, high, runs, _style(mean, sd))


def difference(mean: float, sd: float, *_: float) -> str:
    """`+0.012 (0.004)`: two significant digits of the sd, four of the mean; blank for NaN."""
    return _with_sd(mean, sd, _difference_style(mean, sd), sign="+")


def difference_interval(mean: float, sd: float, low: float, high: float, runs: int) -> str:
    """`[+0.005, +0.019]`: as many places as `difference`; blank for NaN or too few runs."""
    return _ends(low, high, runs, "+" + _difference_style(mean, sd))


def in_percent(text: Callable[..., str]) -> Callable[..., str]:
    """`difference` or `difference_interval` of logarithms, as the change in percent that they mean."""

    def changed(mean: float, sd: float, low: float, high: float, *runs: int) -> str:
        center, *ends = (100 * math.expm1(min(value, 700)) for value in (mean, low, high))
        return text(center, (100 + center) * sd, *ends, *runs)  # as wide around the mean as that of the logarithms

    return changed


def probability(p: float) -> str:
    """`0.042`, `< 0.001`; blank for NaN."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def amount(mean: float, sd: float) -> str:
    """`25.5 (3.5)`, `2550 (354)`: three significant digits, or all before the point; blank for NaN."""
    return _with_sd(mean, sd, f".{max(2 - _exponent(mean), 0)}f")


def number(value: float, places: int = 1) -> str:
    """`12.5`; blank for NaN."""
    return "" if math.isnan(value) else f"{value:.{places}f}"


def measure_name(metric: str) -> str:
    """`PPL` for `valid_ppl`, `event error` for `test_event_error`."""
    measure = metric.removeprefix("valid_").removeprefix("test_")
    return measure.upper() if measure in ("ppl", "nll") else measure.replace("_", " ").replace("rmse", "RMSE")


def _with_sd(mean: float, sd: float, style: str, sign: str = "") -> str:
    if math.isnan(mean):
        return ""
    return f"{mean:{sign}{style}}" + ("" if math.isnan(sd) else f" ({sd:{style}})")


def _ends(low: float, high: float, runs: int, style: str) -> str:
    return "" if math.isnan(low) or runs < LEAST_RUNS else f"[{low:{style}}, {high:{style}}]"


def _exponent(value: float) -> int:
    return math.floor(math.log10(abs(value))) if 0 < abs(value) < math.inf else 0


def _style(mean: float, sd: float) -> str:
    size = _exponent(mean)
    return f".{max(3 - size, min(-_exponent(sd), MOST_PLACES), 0)}f" if -4 <= size <= 5 else ".3e"


def _difference_style(mean: float, sd: float) -> str:
    sizes = [(places, size) for places, size in ((1, sd), (3, abs(mean))) if 0 < size < math.inf]
    places = min((places - _exponent(size) for places, size in sizes), default=3)
    return f".{max(places, 0)}f" if places <= 8 else ".1e"
