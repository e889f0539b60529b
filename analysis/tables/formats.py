"""Tables as text: for a terminal, for Markdown, for LaTeX, as CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from analysis.tables.cells import Cell, Table

FORMATS = ("terminal", "markdown", "latex", "csv")
WIDE = 10_000  # fitted to a pipe's 80 columns or a narrow terminal, cells would vanish
NUMBER = re.compile(r"(?<![\w.])(?:(K|delta)=)?([+-]?)(\d+(?:\.\d+)?)(?:e([+-]?\d+))?(?!\w|\.\d)")
SPECIAL = {**{c: f"\\{c}" for c in "&%$#_{}"}, "\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
SPECIAL |= {"^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}


def print_terminal(table: Table, console: Console) -> None:
    """Print the title, the grid as wide as it needs to be, and the notes, which the terminal wraps.

    Arguments:
        console: of width `WIDE`.
    """
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in table.columns:
        grid.add_column(Text(column.heading), justify=column.align)
    for row in table.rows:
        grid.add_row(*(Text(cell.text, style="bold" if cell.best else "") for cell in row))
    console.print(Text(table.title), soft_wrap=True)  # not the grid's own title, which is wrapped to its width
    console.print(grid)
    for note in table.notes:
        console.print(Text(note), soft_wrap=True)
    console.print()


def markdown(table: Table) -> str:
    """The title as a paragraph, a pipe table, and the notes as a list."""
    dashes = ["---:" if column.align == "right" else "---" for column in table.columns]
    lines = [
        f"**{_markdown_text(table.title)}**",
        "",
        _pipes([_markdown_text(column.heading) for column in table.columns]),
        _pipes(dashes),
        *(_pipes([_markdown_cell(cell) for cell in row]) for row in table.rows),
    ]
    if table.notes:
        lines += ["", *(f"- {_markdown_text(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    r"""A `table` environment to paste: caption, label, `booktabs` rules, the best in bold, the notes below.

    Needs `\usepackage{booktabs}`, and for the notes nothing else. Numbers have a minus sign, not a hyphen; `K=5` and
    `delta=0.9` are set as mathematics.
    """
    align = "".join(column.align[0] for column in table.columns)
    rows = [[_latex_cell(cell) for cell in row] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex_text(table.title)}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
        rf"  \begin{{tabular}}{{@{{}}{align}@{{}}}}",
        r"    \toprule",
        _ampersands([_latex_text(column.heading) for column in table.columns]),
        r"    \midrule",
        *(_ampersands(row) for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    if table.notes:
        notes = r" \\".join(_latex_text(_sentence(note)) for note in table.notes)
        lines.append(rf"  \par\medskip\parbox{{\linewidth}}{{\footnotesize {notes}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One header line, then the rows of all the tables with raw values in full precision.

    The first columns are the tables' keys (`experiment`, `dataset`, `metric`). A column that a table lacks, and what
    is NaN or null, is empty; infinity is `inf`.
    """
    rows = [
        {
            **table.keys,
            **{
                name: value
                for column, cell in zip(table.columns, row, strict=True)
                for name, value in zip(column.names, cell.values, strict=True)
            },
        }
        for table in tables
        for row in table.rows
    ]
    header = _merged([_names(table) for table in tables])
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _raw(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _names(table: Table) -> list[str]:
    return [*table.keys, *(name for column in table.columns for name in column.names)]


def _merged(lists: Sequence[list[str]]) -> list[str]:
    """All names once, each behind those that stand before it in its own list."""
    merged: list[str] = []
    for names in lists:
        place = 0
        for name in names:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged


def _raw(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else value  # numpy's float is one too


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    # Within a word an underscore is itself; `$` begins mathematics on GitHub.
    return re.sub(r"([\\|*<`~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;))", r"\\\1", text)


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text)
    return f"**{text}**" if cell.best and text else text


def _ampersands(cells: Sequence[str]) -> str:
    return f"    {' & '.join(cells)} \\\\"


def _latex_text(text: str) -> str:
    """Escaped; numbers with a sign or an exponent and `name=value` of K and delta in mathematics."""
    parts = []
    end = 0
    for match in NUMBER.finditer(text):
        name, sign, digits, exponent = match.groups()
        parts.append(_escaped(text[end : match.start()]))
        symbol = {None: "", "K": "K=", "delta": r"\delta="}[name]
        power = rf"\times10^{{{int(exponent)}}}" if exponent else ""
        parts.append(f"${symbol}{sign}{digits}{power}$" if symbol or sign or power else digits)
        end = match.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def _latex_cell(cell: Cell) -> str:
    text = _latex_text(cell.text)
    if not (cell.best and text):
        return text
    return rf"\textbf{{{text}}}" if "$" not in text else rf"{{\bfseries\boldmath {text}}}"


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + ("" if note.endswith(".") else ".")
