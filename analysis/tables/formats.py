"""Tables as text: for a terminal, as Markdown, LaTeX and CSV."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd
from rich import box
from rich.table import Table as Grid
from rich.text import Text

from atbptt.errors import line_of, printable
from atbptt.system import Console

from .cells import Table

FORMATS = ("terminal", "markdown", "latex", "csv")
WIDE = 10_000  # columns of the console: fitted to the terminal or to a pipe's 80 columns, cells would be cut
FORMULA = re.compile(r"(?![+-]?([\d.]*(e[+-]?\d+)?|inf|nan)$)[=+\-@\t\r]")  # of a spreadsheet; no number
NUMBER = re.compile(r"(?<![\w.])(?:(K|delta)=)?([+-]?)(\d+(?:\.\d+)?)(?:e([+-]?\d{1,4}))?(?!\w|\.\d)")
LATEX = {ord(character): f"\\{character}" for character in "&%$#_{}"} | str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


def print_terminal(table: Table, console: Console, most: int | None = None) -> None:
    """Print title, the first `most` rows and the notes; `console` has the width `WIDE`: the terminal wraps the rest."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    for column in table.columns:
        grid.add_column(Text(line_of(column.heading)), justify=column.align)
    for row in table.rows[:most]:
        grid.add_row(*(Text(line_of(cell.text), style="bold" if cell.bold else "") for cell in row))
    console.print(Text(line_of(table.title)), soft_wrap=True)  # the grid's own title would be wrapped to its width
    console.print(grid)
    more = len(table.frame) - len(grid.rows)
    for note in [*([f"and {more} more row{'s' if more > 1 else ''}"] if more else []), *table.notes]:
        console.print(Text(line_of(note)), soft_wrap=True)
    console.print()


def markdown(table: Table) -> str:
    """The title as a paragraph, a pipe table, and the notes as a list."""

    def pipes(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [
        f"**{_markdown_text(table.title)}**",
        "",
        pipes(_markdown_text(column.heading) for column in table.columns),
        pipes("---:" if column.align == "right" else "---" for column in table.columns),
    ]
    for row in table.rows:
        texts = [(_markdown_text(cell.text), cell.bold) for cell in row]
        lines.append(pipes(f"**{text}**" if bold and text else text for text, bold in texts))
    if table.notes:
        lines += ["", *(f"- {_markdown_text(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    r"""A `table` environment: caption, label, `booktabs` rules, some cells in bold, the notes below.

    Needs `\usepackage{booktabs}`. Numbers have a minus sign, not a hyphen; `K=5` and `delta=0.9` are mathematics.
    """

    def ampersands(cells: Iterable[str]) -> str:
        return f"    {_after_break(' & '.join(cells))} \\\\"

    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{_latex_text(table.title)}}}",
        rf"  \label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}",
        rf"  \begin{{tabular}}{{@{{}}{''.join(column.align[0] for column in table.columns)}@{{}}}}",
        r"    \toprule",
        ampersands(_latex_text(column.heading) for column in table.columns),
        r"    \midrule",
        *(ampersands(_latex_text(cell.text, cell.bold) for cell in row) for row in table.rows),
        r"    \bottomrule",
        r"  \end{tabular}",
    ]
    if table.notes:
        texts = (_latex_text(note[:1].upper() + note[1:].removesuffix(".") + ".") for note in table.notes)
        notes = r" \\".join(map(_after_break, texts))
        lines.append(rf"  \par\medskip\parbox{{\linewidth}}{{\footnotesize {notes}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """One header, then all rows in full precision; null, NaN and columns that a table lacks are empty."""
    frames = []
    for table in tables:
        names = dict.fromkeys(name for column in table.columns for name in column.names)
        keys = pd.DataFrame(dict(table.keys), index=table.frame.index)
        frames.append(pd.concat([keys, table.frame[list(names)]], axis=1))
    return without_formulas(pd.concat(frames)).to_csv(index=False, lineterminator="\n")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts that a spreadsheet would compute: `=1+1`, but not the number -1.

    Control characters are escapes: a carriage return would end a line.
    """

    def cell(text: object) -> str:
        shown = printable(str(text))
        return f"'{shown}" if FORMULA.match(shown) else shown

    found = frame.copy(deep=False)
    for name, column in frame.items():
        if not pd.api.types.is_numeric_dtype(column):
            changed = {text: cell(text) for text in column.dropna().unique() if cell(text) != str(text)}
            if changed:
                found[name] = column.astype(object).replace(changed)
    return found.rename(columns=cell)


def _markdown_text(text: str) -> str:
    # Within a word an underscore is itself; `$` begins mathematics on GitHub, `](` ends the text of a link.
    return re.sub(r"([\\|*<`~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)|\](?=[(\[:]))", r"\\\1", line_of(text))


def _latex_text(text: str, bold: bool = False) -> str:
    """Escaped; numbers with a sign or an exponent, and values of K and delta, in mathematics."""
    text = NUMBER.sub(_mathematics, line_of(text).translate(LATEX))
    if not (bold and text):
        return text
    return rf"{{\bfseries\boldmath {text}}}" if "$" in text else rf"\textbf{{{text}}}"


def _after_break(text: str) -> str:
    r"""LaTeX that follows `\\`, which would take a bracket or an asterisk for its own."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def _mathematics(found: re.Match[str]) -> str:
    name, sign, digits, exponent = found.groups()
    symbol = {None: "", "K": "K=", "delta": r"\delta="}[name]
    power = rf"\times10^{{{int(exponent)}}}" if exponent else ""
    return f"${symbol}{sign}{digits}{power}$" if symbol or sign or power else digits
