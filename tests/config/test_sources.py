import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atbptt.config import sources
from atbptt.config.components import component
from atbptt.config.settings import Settings, validated
from atbptt.config.sources import code_digest, user_sources
from atbptt.errors import ConfigError
from tests.config.test_settings import BASE
from tests.helpers.projects import POLICY, Project

OTHER = POLICY.replace("pass", "self.K += 1")


@pytest.fixture(autouse=True)
def _read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_known", {})


def settings(target: str = "mine.Mine", **arguments: Any) -> Settings:
    return validated({**BASE, "truncation": {"_target_": target, "K": 5, **arguments}})


@pytest.mark.parametrize(
    "text",
    [
        f"# a comment\n{POLICY}\n\n",
        f'"""A docstring."""\n{POLICY}',
        POLICY.replace("Mine:", 'Mine:\n    """A docstring."""\n'),
        POLICY.replace("pass", '"""A docstring alone."""'),
        POLICY.replace("self, K: int", "\n        self,\n        K: int,\n    "),
    ],
)
def test_comments_docstrings_and_format_do_not_count(project: Project, text: str) -> None:
    project.write(mine=POLICY)
    before = settings().experiment_id
    project.write(mine=text)
    assert settings().experiment_id == before
    project.write(mine=text.replace("self.K = K", "self.K = K + 1"))
    assert settings().experiment_id != before


# Code whose text from a syntax tree differs between versions of Python, whose digest must not.
PINNED = """
def f(x, y):
    return f"{x['a']} it's {x!r:>{y}}" + f'{"a"}' f"{x = }"
"""


def test_the_digest_stays_what_it_was_whatever_the_version_of_python(project: Project) -> None:
    project.write(mine=PINNED)
    assert code_digest(user_sources(["mine"]))[:8] == "6c5c8eac"


def test_an_edit_counts_when_the_module_is_imported_anew_and_not_before(project: Project) -> None:
    project.write(mine=POLICY)
    made = settings()
    before = made.experiment_id, made.options()
    (project.folder / "mine.py").write_text(OTHER)  # as during a sweep, whose processes go on with what they imported
    assert (made.experiment_id, made.options()) == before
    assert made.sources() == {"mine.py": POLICY.encode()}
    project.forget()
    assert made.experiment_id != before[0]
    assert made.sources() == {"mine.py": OTHER.encode()}
    assert made.changes({"truncation.code_hash": before[1]["truncation.code_hash"]}) == {
        "truncation._target_": "(=mine.Mine) has other code"
    }


def test_the_code_of_a_class_is_no_argument_of_it(project: Project) -> None:
    """Or runs that differ in an argument `code` would be the same run."""
    project.write(mine=POLICY.replace("K: int", "K: int, code: int"))
    assert settings(code=1).experiment_id != settings(code=2).experiment_id


def test_options_tell_versions_of_code_and_data_apart(project: Project, tmp_path: Path) -> None:
    assert not {name for name in validated(BASE).options() if name.endswith("_hash")}
    data = tmp_path / "data.npz"
    data.write_text("1")
    project.write(mine=POLICY, data=POLICY.replace("K: int", "path: str"))
    of_data = {**BASE, "dataset": {"_target_": "data.Mine", "path": str(data)}}
    made = validated({**of_data, "truncation": {"_target_": "mine.Mine", "K": 5}})
    before = {name: value for name, value in made.options().items() if name.endswith("_hash")}
    assert set(before) == {"truncation.code_hash", "dataset.code_hash", "dataset.data_hash"}
    assert {len(value) for value in before.values()} == {8}
    data.write_text("22")
    assert made.changes(before) == {"dataset.path": f"(={data}) holds other data"}
    assert made.hashes().items() > {name: before[name] for name in before if name != "dataset.data_hash"}.items()


# How mine.py imports, and which modules then count besides it.
IMPORTS = {
    "import helper": {"helper"},
    "from helper import number": {"helper"},
    "import package.inner": {"package", "package.inner", "package.base"},
    "from package import inner": {"package", "package.inner", "package.base"},
    "import package.inner as inner, helper": {"package", "package.inner", "package.base", "helper"},
    "import package.part.deep": {"package", "package.part", "package.part.deep"},
    "def later():\n    import helper": {"helper"},
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import helper": {"helper"},
    "try:\n    import nowhere\nexcept ImportError:\n    import helper": {"helper"},
    "import torch, json, of_a_package, linked, atbptt.truncation": set(),
    "from spaces.inner import number": {"spaces.inner"},  # a folder without __init__.py
    "import cycle": {"cycle"},
}


@pytest.mark.parametrize("text", IMPORTS)
@pytest.mark.parametrize("imported", [True, False])
def test_the_users_modules_that_are_imported_count(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, imported: bool
) -> None:
    """Whether or not the process has imported them."""
    environment = project.folder / "venv" / "lib" / "python3.12" / "site-packages"
    environment.mkdir(parents=True)
    (environment / "of_a_package.py").touch()
    (tmp_path / "cached.py").touch()
    (environment / "linked.py").symlink_to(tmp_path / "cached.py")
    monkeypatch.syspath_prepend(str(environment))
    project.write(
        mine=f"{text}\n{POLICY}",
        helper="number = 1",
        unused="number = 1",
        package__init="",
        package__base="number = 1",
        package__inner="from . import base\nfrom .base import number",
        package__part__init="",
        package__part__deep="number = 1",
        spaces__inner="number = 1",
        cycle="import mine",
    )
    if imported:
        project.load("mine")
    assert set(user_sources(["mine.Mine"])) == {"mine", *IMPORTS[text]}
    assert ("mine" in sys.modules) is imported


@pytest.mark.parametrize(
    ("edited", "counts"), [("helper", True), ("unused", False), ("nested", True), ("inner", True), ("listed", True)]
)
def test_the_id_follows_helpers_and_nested_targets(project: Project, edited: str, counts: bool) -> None:
    def make() -> Settings:
        nested = {"_target_": "nested.Inner", "part": {"_target_": "inner.Inner"}}
        return settings(extra=nested, others=[{"_target_": "listed.Inner"}])

    policy = f"import helper\n{POLICY}".replace("K: int", "K: int, extra, others")
    names = ("helper", "unused", "nested", "inner", "listed")
    project.write(mine=policy, **dict.fromkeys(names, "number = 1"))
    before = make()
    assert set(before.sources()) == {"mine.py", "helper.py", "nested.py", "inner.py", "listed.py"}
    id_before = before.experiment_id
    project.write(**{edited: "number = 2"})
    assert (make().experiment_id != id_before) is counts


@pytest.mark.parametrize("target", ["package.Mine", "package.made", "package:Mine"])
def test_what_a_package_re_exports_or_wraps_counts_where_it_is_written(project: Project, target: str) -> None:
    package = "import functools, importlib\nMine = importlib.import_module('package.policy').Mine\n"
    package += "made = functools.partial(Mine)"
    project.write(package__init=package, package__policy=POLICY)
    assert set(settings(target).sources()) == {"package/__init__.py", "package/policy.py"}


def test_a_compiled_module_counts_by_its_bytes(project: Project) -> None:
    project.write(mine=f"def later():\n    import fast\n{POLICY}")
    ids = []
    for content in (b"1", b"2"):
        (project.folder / "fast.abi3.so").write_bytes(content)
        project.forget()
        ids.append(settings().experiment_id)
    assert ids[0] != ids[1]
    assert set(settings().sources()) == {"mine.py"}


def test_code_that_cannot_be_read_is_reported(project: Project) -> None:
    project.write(mine=f"def later():\n    import broken\n{POLICY}", broken="def")
    with pytest.raises(ConfigError, match=r"^truncation._target_ needs .*broken.py, which cannot be read: SyntaxErr"):
        component("truncation", {"_target_": "mine.Mine", "K": 5}).code_digest()


def test_a_class_that_is_in_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook: edited, it would be taken for the run of the class before, and not run."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    exec(POLICY, vars(sys.modules["__main__"]))
    with pytest.raises(ConfigError, match=r"^truncation\._target_ is in __main__, which is no file"):
        settings("__main__.Mine").experiment_id  # noqa: B018


def test_built_in_classes_have_no_code_of_the_users(settings: Callable[..., Settings]) -> None:
    assert settings().sources() == settings().hashes() == {}
