"""Names of packages that are imported when they are first used: not every user of a package needs torch."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Callable


def exports(package: str) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """`__all__`, `__getattr__` and `__dir__` of a package, from the imports under `TYPE_CHECKING` in its `__init__.py`.

    So each name is written once, for type checkers and for Python.
    """
    tree = ast.parse(inspect.getsource(sys.modules[package]))
    homes = {
        alias.name: "." * statement.level + statement.module
        for block in tree.body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }

    def load(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name], package), name)

    names = sorted(homes)
    return names, load, lambda: names
