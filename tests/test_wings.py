"""The rule of imports: each wing imports those below it only, as docs/code.md lists them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Each may import what comes after it, never what comes before.
ORDER = (
    "launch",
    "analysis",
    "analysis.report",
    "analysis.diagnosis",
    "analysis.figures",
    "analysis.tables",
    "analysis.statistics",
    "analysis.loading",
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
    "atbptt.errors",
    "atbptt.lazy",
)
# Names of earlier versions, and the package itself, which names what wings hold.
ALIASES = ("atbptt", "atbptt.streams", "atbptt.schedules", "atbptt.probe")
LEVELS = 10
# What trains, or is trained.
TRAINING = {
    f"atbptt.{wing}" for wing in ("sweeps", "training", "datasets", "windows", "truncation", "probes", "models")
}
# Files of a wing that others take as they are: names of files and columns, and what is used as locks.hold.
SHARED = {"atbptt.runs.schema", "atbptt.system.locks"}
# A file a data set, a file a figure, however many.
LISTS = ("atbptt.datasets", "analysis.figures")


def modules(root: Path) -> dict[str, Path]:
    files = [root / "launch.py", *(root / "atbptt").rglob("*.py"), *(root / "analysis").rglob("*.py")]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """Modules of ours that a file imports anywhere in it; a name from a package is perhaps one too."""
    for node in ast.walk(ast.parse(file.read_text())):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in found if name.partition(".")[0] in ("atbptt", "analysis", "launch"))


def wing_of(module: str) -> str:
    """The wing of a module, or of a name in one."""
    found = [wing for wing in ORDER if module == wing or module.startswith(f"{wing}.")]
    return max(found, key=len, default=module)


@cache
def edges(root: Path) -> set[tuple[str, str]]:
    """Which wing imports which."""
    found = set()
    for module, file in modules(root).items():
        if module not in ALIASES:
            found |= {(wing_of(module), wing_of(name)) for name in imports(file)}
    return {(above, below) for above, below in found if above != below}


def upward(root: Path) -> list[tuple[str, str]]:
    return sorted((a, b) for a, b in edges(root) if b not in ORDER or ORDER.index(a) >= ORDER.index(b))


def test_no_wing_imports_one_above_it() -> None:
    assert upward(ROOT) == []


def test_an_import_upward_is_seen(tmp_path: Path) -> None:
    """Written so that the test above can fail."""
    for wing, text in (("probes", "from atbptt.training import run\n"), ("training", "")):
        (tmp_path / "atbptt" / wing).mkdir(parents=True)
        (tmp_path / "atbptt" / wing / "one.py").write_text(text)
    (tmp_path / "launch.py").touch()
    assert upward(tmp_path) == [("atbptt.probes", "atbptt.training")]


def test_the_levels_of_wings_are_few() -> None:
    def whole(wing: str) -> str:
        return "analysis" if wing.startswith("analysis.") else wing  # its rooms are one wing, and have an order within

    below: dict[str, set[str]] = {wing: set() for wing in ORDER}
    for above, imported in edges(ROOT):
        if whole(above) != whole(imported):
            below[whole(above)].add(whole(imported))

    @cache
    def level(wing: str) -> int:
        return 1 + max((level(each) for each in below[wing]), default=0)

    # The ground that all stand on, and launch.py, are no wings.
    ground = level("atbptt.system")
    assert level("analysis") - ground + 1 <= LEVELS
    assert level("atbptt.sweeps") - ground + 1 <= LEVELS


def test_analysis_imports_no_training_code_but_to_diagnose() -> None:
    assert {a for a, b in edges(ROOT) if a.startswith("analysis") and b in TRAINING} == {"analysis.diagnosis"}


def inside(root: Path) -> list[tuple[str, str]]:
    """Modules, and what they import from a file within another wing."""
    known, found = modules(root), []
    for module, file in known.items():
        for name in imports(file):
            home = name if name in known else name.rpartition(".")[0]
            if wing_of(name) not in (wing_of(module), home) and home not in SHARED and module not in ALIASES[1:]:
                found.append((module, name))
    return found


def test_other_wings_are_imported_by_their_name() -> None:
    """What a wing offers to others is in its `__init__`: their files can be moved within it."""
    assert inside(ROOT) == []


def test_an_import_from_within_a_wing_is_seen(tmp_path: Path) -> None:
    (tmp_path / "atbptt" / "probes").mkdir(parents=True)
    (tmp_path / "atbptt" / "training").mkdir()
    (tmp_path / "atbptt" / "probes" / "one.py").touch()
    (tmp_path / "atbptt" / "training" / "two.py").write_text("from atbptt.probes.one import some\n")
    (tmp_path / "launch.py").write_text("from atbptt.probes import one, some\n")
    assert inside(tmp_path) == [
        ("launch", "atbptt.probes.one"),
        ("atbptt.training.two", "atbptt.probes.one.some"),
    ]


@pytest.mark.parametrize("wing", [wing for wing in ORDER if (ROOT / wing.replace(".", "/")).is_dir()])
def test_a_wing_says_what_it_is_for_and_is_small_enough_to_survey(wing: str) -> None:
    folder = ROOT / wing.replace(".", "/")
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    names = {file.stem for file in folder.iterdir() if file.suffix == ".py" and not file.stem.startswith("_")}
    assert wing in LISTS or len(names) <= 9


def test_the_page_of_the_code_lists_the_wings_in_their_order() -> None:
    page = (ROOT / "docs" / "code.md").read_text().partition("\natbptt/")[2]
    listed = re.findall(r"^ +([a-z]+)/ ", page, re.MULTILINE)
    assert listed == [wing.removeprefix("atbptt.") for wing in ORDER if wing.startswith("atbptt.")][: len(listed)]
    assert len(listed) == 11


@pytest.mark.parametrize("package", ["atbptt", "atbptt.monitor", "atbptt.runs", "atbptt.config", "atbptt.truncation"])
def test_what_needs_no_torch_loads_without_it(package: str) -> None:
    code = (
        f"import sys, {package}\n"
        f"if {package!r} != 'atbptt':\n    [getattr({package}, name) for name in {package}.__all__]\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"
