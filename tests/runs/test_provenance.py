import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from atbptt.runs import provenance
from atbptt.runs.provenance import code, commits, machine, store_diffs
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
    clean = {"path": str(repository.resolve()), "commit": commit, "dirty": False, "untracked": [], "diff": None}
    assert code()["repositories"] == [clean]
    assert commits(code()) == commit[:10]
    (repository / "model.py").write_text("K = 2\n")
    provenance._repositories.cache_clear()
    assert re.fullmatch(rf"{commit[:10]} \(dirty, code-\w{{8}}\.diff\)", commits(code()))


def stored(folder: Path, source: Path | None = None) -> list[Path]:
    folder.mkdir()
    provenance._repositories.cache_clear()
    store_diffs(code(), folder, source)
    return [*folder.iterdir()]


def test_the_diff_applied_to_the_commit_gives_the_code(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the user's config of git says; 1,000 runs have one file; without differences there is none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for option in (
        "diff.noprefix=true",
        "color.ui=always",
        "diff.external=false",
        "core.pager=false",
        "diff.renames=no",
    ):
        git("config", *option.split("="))
    assert stored(tmp_path / "clean") == []
    edited = "K = 2  \n\n# caf\xe9, no UTF-8, and no end of line".encode("latin-1")
    (repository / "model.py").write_bytes(edited)
    (repository / "policy.py").write_text("new = True\n")
    git("add", "policy.py")
    (sweep,) = stored(tmp_path / "sweep")
    (diff,) = stored(tmp_path / "run", sweep.parent)
    assert diff.samefile(sweep)
    git("reset", "-q", "--hard")
    git("apply", str(diff))
    assert (repository / "model.py").read_bytes() == edited
    assert (repository / "policy.py").read_text() == "new = True\n"


def test_a_diff_is_cut_off_at_its_limit_and_a_copy_where_there_are_no_links(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (repository / "model.py").write_text("".join(f"{n}\n" for n in range(1000)))
    monkeypatch.setattr(provenance, "DIFF_BYTES", 1000)
    (sweep,) = stored(tmp_path / "sweep")
    content = sweep.read_bytes()
    assert content.endswith(b"\n# cut off here: git diff gives more than 1,000 bytes\n")
    assert 900 < len(content) < 1100
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError))
    monkeypatch.setattr(provenance, "_diffs", {})
    found = code()
    for name, source in (("copy", sweep.parent), ("gone", tmp_path / "nowhere")):
        (tmp_path / name).mkdir()
        store_diffs(found, tmp_path / name, source)
    assert (tmp_path / "copy" / sweep.name).read_bytes() == content
    assert [*(tmp_path / "gone").iterdir()] == []


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
