"""The source of a user's modules, which is part of what a run is: found by imports, as they stand in the syntax tree.

A module is the user's if it is a file that is neither of Python, nor of an installed package, nor of atbptt. Once
imported, it is not read again until it is imported anew: the text is that of the code that this process runs.
"""

import ast
import functools
import hashlib
import importlib.util
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path

from atbptt.errors import ConfigError, described
from atbptt.system import read_file

PACKAGE = os.path.realpath(Path(__file__).parents[1])
_PYTHON = [os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
_INSTALLED = {"site-packages", "dist-packages"}  # folders of packages, in whatever environment


@dataclass(frozen=True)
class Source:
    """A user's module."""

    file: str
    path: str  # `package/module.py`, by the module's name
    content: bytes  # of its file
    digest: str  # of what decides what it does: its code without comments, docstrings and format
    imports: tuple[str, ...]  # dotted names, of modules or of names in them


def user_sources(names: Iterable[str]) -> dict[str, Source]:
    """The user's modules, by name, that the dotted names lie in, and all that these import (ConfigError)."""
    found: dict[str, Source] = {}
    seen: set[str] = set()
    waiting = [*names]
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):  # importing a.b.c imports a and a.b
            if name not in seen and (source := _source(name)) is not None:
                found[name] = source
                waiting += source.imports
            seen.add(name)
    return found


def code_digest(sources: Mapping[str, Source]) -> str:
    digest = hashlib.sha256()
    for name, source in sorted(sources.items()):
        digest.update(f"{name}:{source.digest}\n".encode())
    return digest.hexdigest()


@functools.cache
def installed(file: str) -> bool:
    """Whether a file is of Python or of an installed package."""
    real = os.path.realpath(file)  # packages may be links into a cache
    folders = {*Path(file).parts, *Path(real).parts}
    return not _INSTALLED.isdisjoint(folders) or any(_within(real, folder) for folder in _PYTHON)


def is_users(file: str) -> bool:
    """Whether the code of a file is the user's."""
    return os.path.isfile(file) and not installed(file) and not _within(os.path.realpath(file), PACKAGE)


def _within(file: str, folder: str) -> bool:
    return file.startswith(folder + os.sep)


# By a module's name: as what it was imported, None if it was not; when its file was changed; its source.
_known: dict[str, tuple[object, int, Source | None]] = {}


def _source(name: str) -> Source | None:
    """The source of a module; None if it is none of the user's."""
    module = sys.modules.get(name)
    imported = getattr(module, "__spec__", None) or module  # another object when it is imported anew
    known = _known.get(name)
    if known is None or known[0] is not imported or (imported is None and known[1] != _changed_ns(known[2])):
        source = _read(name)
        known = _known[name] = imported, _changed_ns(source), source
    return known[2]


def _changed_ns(source: Source | None) -> int:
    try:
        return 0 if source is None else os.stat(source.file).st_mtime_ns
    except OSError:  # it is gone
        return -1


def _read(name: str) -> Source | None:
    spec = _spec(name)
    if spec is None and name == "__main__":  # else an edited class would pass for the one before
        raise ConfigError("_target_", "is in __main__, which is no file, as in a notebook: move it to a module")
    if spec is None or spec.origin is None or not is_users(spec.origin):
        return None
    file = Path(spec.origin)
    stem = name.replace(".", "/") + ("/__init__" if spec.submodule_search_locations is not None else "")
    try:
        content = read_file(file)
        if file.suffix != ".py":  # compiled
            return Source(spec.origin, stem + file.suffix, content, hashlib.sha256(content).hexdigest(), ())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shown when it is imported
            tree = ast.parse(content, file.name)
        imports = tuple(dict.fromkeys(_imports(tree, spec.parent)))
        digest = hashlib.sha256(_code(tree).encode(errors="surrogatepass")).hexdigest()
        return Source(spec.origin, f"{stem}.py", content, digest, imports)
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise ConfigError("_target_", f"needs {file}, which cannot be read: {described(error)}") from error


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, without importing it or its parents."""
    if name in sys.modules:
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        known: ModuleSpec | None = getattr(module, "__spec__", None)
        return known or (importlib.util.spec_from_file_location(name, file) if file else None)  # a script has none
    parent = name.rpartition(".")[0]
    folders = None
    if parent:
        above = _spec(parent)
        folders = None if above is None else above.submodule_search_locations
        if folders is None:  # it is no package
            return None
    for finder in sys.meta_path:
        with suppress(Exception):  # an import that fails will do so when it is run
            if (spec := finder.find_spec(name, folders)) is not None:
                return spec
    return None


def _imports(tree: ast.AST, package: str | None) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with suppress(ImportError):  # beyond the top
                home = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{home}.{alias.name}" for alias in node.names)


def _code(tree: ast.AST) -> str:
    """A tree as text, without docstrings; the same in all versions of Python, unlike that of `ast.dump`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return ast.unparse(_Plain().visit(tree))


class _Plain(ast.NodeTransformer):
    """Makes calls of f-strings, whose quotes and empty parts differ between versions of Python."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Call:
        parts = [part for part in node.values if not (isinstance(part, ast.Constant) and part.value == "")]
        return ast.Call(ast.Name("f-string"), [self.visit(part) for part in parts], [])

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.Call:
        parts = [node.value, ast.Constant(node.conversion), *([node.format_spec] if node.format_spec else [])]
        return ast.Call(ast.Name("value"), [self.visit(part) for part in parts], [])
