import io
import math

import pandas as pd
import pytest
from rich.console import Console

from analysis.tables.cells import Column, Table
from analysis.tables.formats import WIDE, latex, markdown, print_terminal, to_csv, without_formulas

NLL = Column("test NLL", ["test_mean", "test_sd"], lambda mean, sd: f"{mean:g} ({sd:g})", bold="bold")
COLUMNS = [Column("policy", ["policy"], align="left"), Column("lr_scaling", ["lr_scaling"], align="left"), NLL]
FRAME = pd.DataFrame(
    {
        "policy": ["fixed K=5", "adaptive delta=0.9"],
        "lr_scaling": ["a|b", "sqrt"],
        "test_mean": [-4.745, 2e-05],
        "test_sd": [0.1 + 0.2, 3],
        "bold": [True, False],
    }
)
KEYS = {"dataset": "ptb", "metric": "valid_nll"}
TABLE = Table("a_b", "50% of {x}: mean (sd)", COLUMNS, FRAME, ["lr=1e-05, see docs"], KEYS)


def one_cell(text: str) -> Table:
    return Table("n", text, COLUMNS[:1], pd.DataFrame({"policy": [text]}), [text])


def printed(table: Table, most: int | None = None) -> list[str]:
    text = io.StringIO()
    print_terminal(table, Console(file=text, width=WIDE), most)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_terminal() -> None:
    lines = [
        "50% of {x}: mean (sd)",
        "policy              lr_scaling      test NLL",
        "─" * 44,
        "fixed K=5           a|b         -4.745 (0.3)",
        "adaptive delta=0.9  sqrt           2e-05 (3)",
        "lr=1e-05, see docs",
        "",
    ]
    assert printed(TABLE) == printed(TABLE, most=2) == lines
    assert printed(TABLE, most=1)[-3:] == ["and 1 more row", "lr=1e-05, see docs", ""]
    for text in ("[bold]x[/bold]", "[red]", "y" * 200):  # is no markup, and is not cut
        title, _, _, cell, note, _ = printed(one_cell(text))
        assert title == cell == note == text
    title, _, _, cell, note, _ = printed(one_cell("a\nb\x1b"))
    assert title == cell == note == r"a\nb\x1b"


def test_markdown() -> None:
    assert markdown(TABLE) == (
        "**50% of {x}: mean (sd)**\n"
        "\n"
        "| policy | lr_scaling | test NLL |\n"
        "| --- | --- | ---: |\n"
        "| fixed K=5 | a\\|b | **-4.745 (0.3)** |\n"
        "| adaptive delta=0.9 | sqrt | 2e-05 (3) |\n"
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
        ("$x_1|y\nb\x1b", r"\$x_1\|y\\nb\\x1b"),
        ("![a](b) [c]: d [1, 2]", r"![a\](b) [c\]: d [1, 2]"),
    ],
)
def test_markdown_text_is_shown_as_it_is(text: str, expected: str) -> None:
    lines = markdown(one_cell(text)).splitlines()
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
    fixed $K=5$ & a\textbar{}b & {\bfseries\boldmath $-4.745$ (0.3)} \\
    adaptive $\delta=0.9$ & sqrt & $2\times10^{-5}$ (3) \\
    \bottomrule
  \end{tabular}
  \par\medskip\parbox{\linewidth}{\footnotesize Lr=$1\times10^{-5}$, see docs.}
\end{table}
"""
    )
    plain = Table("n", "t", [NLL], pd.DataFrame({"test_mean": [1, 2], "test_sd": [3, 4], "bold": [True, False]}))
    assert r"\textbf{1 (3)} \\" in latex(plain)
    assert "parbox" not in latex(plain)
    assert "\n    {}[1, 2] \\\\\n" in latex(one_cell("[1, 2]"))  # else an option of the row's end before


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
        ("$x_1|y\nb\x1b", r"\$x\_1\textbar{}y\textbackslash{}nb\textbackslash{}x1b"),
        ("1e" + "9" * 5000, "1e" + "9" * 5000),
    ],
)
def test_latex_text(text: str, expected: str) -> None:
    assert f"\\caption{{{expected}}}" in latex(one_cell(text))


def test_csv_has_raw_values_in_full_precision_and_one_header() -> None:
    other = pd.DataFrame({"policy": ["p"], "lr": [1.0], "test_mean": [math.inf], "test_sd": [math.nan]})
    columns = [COLUMNS[0], Column("lr", ["lr"]), NLL]
    assert to_csv([TABLE, Table("c", "t", columns, other, keys=KEYS)]).splitlines() == [
        "dataset,metric,policy,lr_scaling,test_mean,test_sd,lr",
        "ptb,valid_nll,fixed K=5,a|b,-4.745,0.30000000000000004,",
        "ptb,valid_nll,adaptive delta=0.9,sqrt,2e-05,3.0,",
        "ptb,valid_nll,p,,inf,,1.0",
    ]


def test_csv_cells_stay_cells() -> None:
    frame = pd.DataFrame({'a,"\r': ["x\ry\nz", "\0;,", "=1+1", "-1"]})
    text = without_formulas(frame).to_csv(index=False, lineterminator="\n")
    read = pd.read_csv(io.StringIO(text), dtype=str)
    assert read.to_dict("list") == {r'a,"\r': ["x\\ry\nz", r"\x00;,", "'=1+1", "-1"]}
