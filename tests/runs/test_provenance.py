import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atbptt.runs import provenance
from atbptt.runs.provenance import code, commits, machine
from tests.helpers.projects import Project


@pytest.fixture(autouse=True)
def _found_anew() -> Iterator[None]:
    provenance._repositories.cache_clear()
    yield
    provenance._repositories.cache_clear()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository of a user's, with one commit, which is the present folder."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "elsewhere")
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (folder / "model.py").write_text("K = 1\n")
    git("init", "-q")
    git("add", "model.py")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
    return folder


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_reported_and_whether_files_differ_from_it(repository: Path) -> None:
    commit = git("rev-parse", "HEAD")
    (repository / "notes.txt").write_text("not of the code")
    clean = {"path": str(repository.resolve()), "commit": commit, "dirty": False, "untracked": []}
    assert code()["repositories"] == [clean]
    assert commits(code()) == commit[:10]
    (repository / "model.py").write_text("K = 2\n")
    provenance._repositories.cache_clear()
    assert commits(code()) == f"{commit[:10]} (dirty)"


def test_imported_files_that_git_does_not_track_count_and_are_listed(
    repository: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for those of an environment in the folder, and of those that nothing has imported."""
    environment = repository / "venv" / "lib" / "site-packages"
    environment.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(environment))
    monkeypatch.syspath_prepend(str(repository))
    for name, folder in (("my_policy", repository), ("unused", repository), ("of_a_package", environment)):
        (folder / f"{name}.py").touch()

    def found(*imported: str) -> list[tuple[bool, list[str]]]:
        for name in imported:
            project.load(name)
        return [(each["dirty"], each["untracked"]) for each in code()["repositories"]]

    assert found("model", "of_a_package") == [(False, [])]
    assert found("my_policy") == [(True, ["my_policy.py"])]
    git("add", "my_policy.py")
    provenance._repositories.cache_clear()
    assert found() == [(True, [])]  # tracked, but not as committed


def test_an_installed_package_is_no_part(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = repository / "venv" / "atbptt"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    monkeypatch.setattr(provenance, "PACKAGE", installed)
    monkeypatch.chdir(tmp_path)
    assert code()["repositories"] == []
    assert commits(code()) == "none"


def test_without_git_there_are_no_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code()["repositories"] == []
    assert code()["packages"]["torch"]


def test_the_machine_is_described() -> None:
    found = machine()
    assert (found["host"], found["gpus"]) == (socket.gethostname(), [])
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0
