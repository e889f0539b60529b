"""What is declared in pyproject.toml, the constraints, CITATION.cff and CHANGELOG.md agrees with the code."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml

import atbptt
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
USERS = EXTRAS.keys() - {"dev"}
LINE = re.compile(r"([\w.-]+)(?:\[\w+\])?(?:[><=]=([\d.]+))?")


def bounds(lines: list[str]) -> dict[str, str]:
    """The versions of requirements, by names in one form."""
    found = [LINE.match(line) for line in lines]
    return {match[1].lower().replace("_", "-"): match[2] for match in found if match}


def imported(folder: str) -> set[str]:
    """The packages, not of Python itself, that a folder's modules import."""
    nodes = [node for file in (ROOT / folder).rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    ours = {"atbptt", "analysis", "benchmarks", "launch", "tests"}
    return {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, *ours}


@pytest.mark.parametrize(("folder", "extras"), [("atbptt", USERS), ("analysis", USERS), ("tests", EXTRAS.keys())])
def test_what_is_imported_is_declared(folder: str, extras: set[str]) -> None:
    declared = bounds([*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])])
    homes = {"mlflow": ["mlflow-skinny"]} | packages_distributions()  # the extras of trackers may be missing
    names = imported(folder)
    assert len(names) > 5
    undeclared = {
        name
        for name in names
        if not declared.keys() & {home.lower().replace("_", "-") for home in homes.get(name, [name])}
    }
    assert undeclared == set()


def test_the_lowest_constraints_are_the_lower_bounds() -> None:
    lowest = bounds((ROOT / "constraints-lowest.txt").read_text().splitlines())
    tested = (*EXTRAS["experiments"], *EXTRAS["search"], *EXTRAS["tensorboard"])
    declared = bounds([*PROJECT["dependencies"], *(line for line in tested if not line.startswith("atbptt"))])
    assert all(declared.values())
    assert lowest == declared | {"torch": lowest["torch"]}  # see the comment there


def test_the_version_is_that_of_the_citation_and_the_changelog() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    dated = re.search(r"^## \[?([\d.]+)\]? - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert dated is not None
    assert dated.groups() == (atbptt.__version__, str(citation["date-released"]))
    assert citation["version"] == atbptt.__version__
