"""The rule of imports: each wing imports only those below it, in the order of docs/code.md."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Each may import those that come after it.
ORDER = (
    "launch",
    "atbptt.__main__",  # the command, which alone knows both
    "analysis",
    "analysis.report",
    "analysis.diagnosis",
    "analysis.figures",
    "analysis.tables",
    "analysis.following",
    "analysis.statistics",
    "analysis.loading",
    "atbptt.launch",
    "atbptt.sweeps",
    "atbptt.monitor",
    "atbptt.training",
    "atbptt.runs",
    "atbptt.config",
    "atbptt.datasets",
    "atbptt.windows",
    "atbptt.truncation",
    "atbptt.probes",
    "atbptt.models",
    "atbptt.system",
    "atbptt.randomness",
    "atbptt.earlier",
    "atbptt.errors",
    "atbptt.interrupts",
    "atbptt.lazy",
    "atbptt.__version__",
)
# Names of earlier versions, and the package itself, which re-exports names of wings.
ALIASES = ("atbptt", "atbptt.streams", "atbptt.schedules", "atbptt.probe", "atbptt.stored")
TRAINING = {
    f"atbptt.{wing}" for wing in ("sweeps", "training", "datasets", "windows", "truncation", "probes", "models")
}
# Modules that other wings import as a whole: names of files and columns, and locks.hold; commands; `__version__`.
SHARED = {
    "atbptt.runs.schema",
    "atbptt.system.locks",
    "analysis.__main__",
    "atbptt.datasets.__main__",
    "atbptt",
    "atbptt.stored",
}
# These have one file per data set or figure, however many.
LISTS = ("atbptt.datasets", "analysis.figures")


def modules(root: Path) -> dict[str, Path]:
    files = [root / "launch.py", *(root / "atbptt").rglob("*.py"), *(root / "analysis").rglob("*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """Our modules that a file imports, and names from them, which may be modules too."""
    for node in ast.walk(ast.parse(file.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = file.relative_to(ROOT).parts[: -node.level] if node.level else ()
            origin = ".".join([*above, *filter(None, [node.module])])
            found = [f"{origin}.{alias.name}" for alias in node.names]
            own = origin.partition(".")[0] == "analysis"
            assert own == bool(node.level), f"{file} imports {origin}: analysis/ is imported relatively, all else not"
        found = [re.sub(r"^atbptt\.analysis\b", "analysis", name) for name in found]  # a link
        yield from (name for name in found if name.partition(".")[0] in ("atbptt", "analysis", "launch"))


def wing_of(module: str) -> str:
    """The wing of a module, or of a name in one."""
    found = [wing for wing in ORDER if module == wing or module.startswith(f"{wing}.")]
    return max(found, key=len, default=module)


@cache
def edges(root: Path) -> set[tuple[str, str]]:
    """The pairs of wings of which the first imports the second."""
    found = {
        (wing_of(module), wing_of(name))
        for module, file in modules(root).items()
        if module not in ALIASES
        for name in imports(file)
    }
    return {(above, below) for above, below in found if above != below}


def upward(root: Path) -> list[tuple[str, str]]:
    return sorted((a, b) for a, b in edges(root) if b not in ORDER or ORDER.index(a) >= ORDER.index(b))


def inside(root: Path) -> list[tuple[str, str]]:
    """Modules that import from a file within another wing, and what they import."""
    known, found = modules(root), []
    for module, file in known.items():
        for name in imports(file):
            home = name if name in known else name.rpartition(".")[0]
            if wing_of(name) not in (wing_of(module), home) and home not in SHARED and module not in ALIASES[1:]:
                found.append((module, name))
    return found


def test_wings_import_only_those_below_them_and_by_their_name() -> None:
    """A wing's `__init__` re-exports what others use, so that its files can be rearranged."""
    assert upward(ROOT) == []
    assert inside(ROOT) == []


def test_only_the_diagnosis_in_analysis_imports_training_code() -> None:
    assert {a for a, b in edges(ROOT) if a.startswith("analysis") and b in TRAINING} == {"analysis.diagnosis"}


@pytest.mark.parametrize("wing", [wing for wing in ORDER if (ROOT / wing.replace(".", "/")).is_dir()])
def test_a_wing_has_a_docstring_and_few_files(wing: str) -> None:
    folder = ROOT / wing.replace(".", "/")
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    names = {file.stem for file in folder.glob("*.py") if not file.stem.startswith("_")}
    assert wing in LISTS or len(names) <= 9


def test_the_page_of_the_code_lists_the_wings_in_their_order() -> None:
    page = (ROOT / "docs" / "code.md").read_text().partition("\natbptt/")[2]
    listed = re.findall(r"^ +([a-z]+)/ ", page, re.MULTILINE)
    wings = [wing for wing in ORDER if wing.startswith("atbptt.") and (ROOT / wing.replace(".", "/")).is_dir()]
    assert listed == [wing.removeprefix("atbptt.") for wing in wings]


def test_packages_that_need_no_torch_do_not_import_it() -> None:
    code = """
import importlib, sys
for name in ("monitor", "runs", "config", "truncation"):
    package = importlib.import_module(f"atbptt.{name}")
    assert [getattr(package, exported) for exported in package.__all__]
    assert "torch" not in sys.modules, name
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
