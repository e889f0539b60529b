"""What a terminal would obey is shown as escapes, wherever text leaves for one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PRINTING = ROOT / "atbptt" / "system"
OWN = {"atbptt/errors.py"}  # warnings, below `system`
# Expressions that show text as it is. Our own warnings have escapes, as all that `printable` returns.
SHOWING = re.compile(
    r"print\(|(sys\.)?std(out|err)\.write\(|(sys\.exit|SystemExit)\(f['\"]|warnings\.warn\((?!.*(Data|Runs)Warning\b)",
    re.DOTALL,
)


def showing(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and SHOWING.match(text := ast.unparse(node)):
            yield f"{node.lineno}: {text}"
        if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
            yield from (f"{node.lineno}: {alias.name}" for alias in node.names if alias.name == "Console")


def files() -> Iterator[Path]:
    for folder in ("atbptt", "analysis", "benchmarks"):
        yield from (ROOT / folder).rglob("*.py")
    yield ROOT / "launch.py"


def test_only_the_printing_of_system_prints() -> None:
    """Else foreign text could reach the terminal as it is."""
    found = []
    for file in files():
        name = str(file.relative_to(ROOT))
        if file.parent == PRINTING or name in OWN or name.startswith(("atbptt/analysis", "atbptt/conf")):
            continue
        found += [f"{name}:{each}" for each in showing(file.read_text())]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("print(x)", 1),
        ("sys.stderr.write(x)", 1),
        ("warnings.warn(x, stacklevel=2)", 1),
        ("warnings.warn(x, DataWarning, stacklevel=2)", 0),
        ("sys.exit(f'{x}')", 1),
        ("sys.exit(main())", 0),
        ("from rich.console import Console, Group", 1),
        ("print_text(x); console.print(x)", 0),
    ],
)
def test_what_prints_is_found(source: str, count: int) -> None:
    assert len([*showing(source)]) == count
