import io

import pytest
from rich.table import Table
from rich.text import Text

from atbptt.system import Console, print_text, rendered

CLEAR = "\x1b[2J\x07\r\x9b1A\u202e\udcff"
SHOWN = r"\x1b[2J\x07\r\x9b1A\u202e\udcff"


def test_trailing_blanks_are_left_out() -> None:
    table = Table.grid("")
    for text in ("a", "long"):
        table.add_row(text)
    assert rendered(Console(), table) == "a\nlong"


def test_control_characters_are_shown_wherever_they_stand() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200, force_terminal=True, color_system="standard")
    table = Table("plain", "heading" + CLEAR)
    table.add_row(CLEAR, Text(CLEAR, style="red"))
    console.print(table)
    console.print(CLEAR, style="bold")
    assert out.getvalue().count(r"\x1b[2") == 4
    assert SHOWN.replace(r"\x07\r", "") in out.getvalue()  # rich itself leaves these two out
    assert "\x1b[31m" in out.getvalue()
    assert not {"\x07", "\r", "\x9b", "\u202e", "\udcff", "\x1b[2J"} & {*out.getvalue()}
    assert "\x1b[2J" not in out.getvalue()


def test_markup_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    Console().print("[red]a[/] :smile: 1")
    assert capsys.readouterr().out == "[red]a[/] :smile: 1\n"


def test_texts_are_printed_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_text("a\tb", CLEAR, 3)
    assert capsys.readouterr().out == f"a\tb\n{SHOWN}\n3\n"
