"""What a terminal would obey is shown as escapes, wherever text leaves for one."""

import ast

from tests.conftest import ROOT

PRINTING = ROOT / "atbptt" / "system"
OWN = {"atbptt/errors.py"}  # warnings, below `system`


def test_only_the_printing_of_system_prints() -> None:
    """Else foreign text could reach the terminal as it is."""
    found = []
    for file in [ROOT / "launch.py", *(ROOT / "atbptt").rglob("*.py"), *(ROOT / "analysis").rglob("*.py")]:
        name = str(file.relative_to(ROOT))
        if file.parent == PRINTING or name in OWN or name.startswith(("atbptt/analysis", "atbptt/conf")):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                found.append(f"{name}:{node.lineno}: print")
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                found += [f"{name}:{node.lineno}: {alias.name}" for alias in node.names if alias.name == "Console"]
    assert found == []
