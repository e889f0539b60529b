from __future__ import annotations

import csv
import io
import math

import pandas as pd
import pytest
from rich.console import Console

from analysis.tables.cells import Cell, Column, Table
from analysis.tables.formats import WIDE, latex, markdown, print_terminal, to_csv

COLUMNS = [
    Column("policy", "left", ("policy",)),
    Column("lr_scaling", "left", ("lr_scaling",)),
    Column("test NLL", "right", ("test_mean", "test_sd")),
]
TABLE = Table(
    "a_b",
    "50% of {x}: mean (sd)",
    COLUMNS,
    [
        [Cell("fixed K=5", ("fixed K=5",)), Cell("a|b", ("a|b",)), Cell("-4.745 (0.004)", (-4.745, 0.1 + 0.2), True)],
        [Cell("adaptive delta=0.9", ("adaptive delta=0.9",)), Cell("sqrt", ("sqrt",)), Cell("2e-05", (2e-05, None))],
    ],
    ["lr=1e-05, see docs"],
    {"dataset": "ptb", "metric": "valid_nll"},
)


def test_terminal() -> None:
    text = io.StringIO()
    print_terminal(TABLE, Console(file=text, width=WIDE))
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    assert lines == [
        "50% of {x}: mean (sd)",
        "policy              lr_scaling        test NLL",
        "─" * 46,
        "fixed K=5           a|b         -4.745 (0.004)",
        "adaptive delta=0.9  sqrt                 2e-05",
        "lr=1e-05, see docs",
        "",
    ]


def test_markup_in_a_cell_is_text() -> None:
    text = io.StringIO()
    cells = [Cell("[bold]x[/bold]", ("x",)), Cell("y" * 200, ("y",)), Cell("", (None, None))]
    print_terminal(Table("n", "[red]", COLUMNS, [cells]), Console(file=text, width=WIDE))
    assert "[bold]x[/bold]" in text.getvalue()
    assert "y" * 200 in text.getvalue()
    assert text.getvalue().startswith("[red]\n")


def test_markdown() -> None:
    assert markdown(TABLE) == (
        "**50% of {x}: mean (sd)**\n"
        "\n"
        "| policy | lr_scaling | test NLL |\n"
        "| --- | --- | ---: |\n"
        "| fixed K=5 | a\\|b | **-4.745 (0.004)** |\n"
        "| adaptive delta=0.9 | sqrt | 2e-05 |\n"
        "\n"
        "- lr=1e-05, see docs\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr_scaling", "lr_scaling"),
        ("_mine_ a_b_", r"\_mine\_ a_b\_"),
        ("a|b `c` *d* <e>", r"a\|b \`c\` \*d\* \<e>"),
        ("$x$ ~~y~~", r"\$x\$ \~\~y\~\~"),
        ("a & b &lt; &#36;", r"a & b \&lt; \&#36;"),
    ],
)
def test_markdown_text_is_shown_as_it_is(text: str, expected: str) -> None:
    table = Table("a", text, COLUMNS[:1], [[Cell(text, (text,))]], [text], {})
    lines = markdown(table).splitlines()
    assert [lines[0], *lines[4:]] == [f"**{expected}**", f"| {expected} |", "", f"- {expected}"]


def test_latex() -> None:
    assert (
        latex(TABLE)
        == r"""\begin{table}
  \centering
  \caption{50\% of \{x\}: mean (sd)}
  \label{tab:a-b}
  \begin{tabular}{@{}llr@{}}
    \toprule
    policy & lr\_scaling & test NLL \\
    \midrule
    fixed $K=5$ & a\textbar{}b & {\bfseries\boldmath $-4.745$ (0.004)} \\
    adaptive $\delta=0.9$ & sqrt & $2\times10^{-5}$ \\
    \bottomrule
  \end{tabular}
  \par\medskip\parbox{\linewidth}{\footnotesize Lr=$1\times10^{-5}$, see docs.}
\end{table}
"""
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("original-buffer", "original-buffer"),
        ("5-train", "5-train"),
        ("[-0.1, +0.2]", "[$-0.1$, $+0.2$]"),
        ("1.5e+08 (3)", r"$1.5\times10^{8}$ (3)"),
        (
            r"C:\a_b^c~$&#<>",
            r"C:\textbackslash{}a\_b\textasciicircum{}c\textasciitilde{}\$\&\#\textless{}\textgreater{}",
        ),
        ("delta=1e-05", r"$\delta=1\times10^{-5}$"),
        ("from fixed K=10.", r"from fixed $K=10$."),
        ("0.9.1 1e5x x-1", "0.9.1 1e5x x-1"),
        ("K_init=15", r"K\_init=15"),
        ("1.036 (0.004)", "1.036 (0.004)"),
    ],
)
def test_latex_text(text: str, expected: str) -> None:
    table = Table("n", text, [Column("c", "left", ("c",))], [])
    assert f"\\caption{{{expected}}}" in latex(table)


def test_csv_has_raw_values_in_full_precision() -> None:
    header, *rows = csv.reader(io.StringIO(to_csv([TABLE])))
    assert header == ["dataset", "metric", "policy", "lr_scaling", "test_mean", "test_sd"]
    assert rows[0] == ["ptb", "valid_nll", "fixed K=5", "a|b", "-4.745", "0.30000000000000004"]
    assert rows[1][-2:] == ["2e-05", ""]
    read = pd.read_csv(io.StringIO(to_csv([TABLE])))
    assert read["test_sd"].tolist() == pytest.approx([0.1 + 0.2, math.nan], abs=0, nan_ok=True)


def test_csv_of_several_tables_has_one_header() -> None:
    columns = [COLUMNS[0], Column("lr", "right", ("lr",)), COLUMNS[2]]
    other = Table("c", "t", columns, [[Cell("", ("p",)), Cell("", (1.0,)), Cell("", (math.inf, math.nan))]], (), {})
    header, *rows = csv.reader(io.StringIO(to_csv([TABLE, other])))
    assert header == ["dataset", "metric", "policy", "lr", "lr_scaling", "test_mean", "test_sd"]
    assert rows[2] == ["", "", "p", "1.0", "", "inf", ""]
    assert len(rows) == 3
