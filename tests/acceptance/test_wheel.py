"""The wheel in a clean environment with torch, numpy and their requirements only."""

import contextlib
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "tree").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder / "tree")
    for name in ("atbptt", "analysis"):
        shutil.copytree(root / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, folder / "tree"]
    subprocess.run(command, check=True, timeout=300)
    (built,) = folder.glob("atbptt-*.whl")
    return built


def needed_by(*names: str) -> set[str]:
    """The names of these distributions and all their requirements."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        with contextlib.suppress(PackageNotFoundError):  # of another platform
            if name not in found:
                lines = distribution(name).requires or []
                waiting += [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
                found.add(name)
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the wheel; torch and numpy are linked from this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    interpreter = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    for name in needed_by("torch", "numpy"):
        of = distribution(name)
        for top in {Path(file).parts[0] for file in of.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(Path(str(of.locate_file(top))))
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", *options, wheel]
    subprocess.run(command, check=True, timeout=120)
    return interpreter


def ran(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the clean environment, outside the checkout."""
    environment = {"PATH": "", "HOME": str(folder)}
    command = [str(python), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


def test_the_wheel_has_every_package_and_the_mark_of_types(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = [path.relative_to(root) for top in ("atbptt", "analysis") for path in (root / top).rglob("*.py")]
    expected = {path.as_posix() for path in modules if "notebooks" not in path.parts}
    assert len(expected) > 60
    assert expected <= names
    assert {"atbptt/py.typed", "analysis/tables/published.json", "analysis/report/report.html"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


NAMES = """
import importlib.util, atbptt
for name in atbptt.__all__:
    getattr(atbptt, name)
needed_by_experiments = ("hydra", "omegaconf", "pandas", "matplotlib", "pyarrow", "pydantic")
print(atbptt.__file__, [name for name in needed_by_experiments if importlib.util.find_spec(name)])
"""


def test_the_library_and_the_readmes_model_run_from_it(python: Path, tmp_path: Path, root: Path) -> None:
    done = ran(python, tmp_path, "-c", NAMES)
    assert done.returncode == 0, done.stderr
    file, found = done.stdout.split()
    assert Path(file).is_relative_to(python.parent.parent)
    assert found == "[]"
    shutil.copy(root / "docs" / "characters.py", tmp_path)
    (tmp_path / "text.txt").write_text("how far back must a recurrent network backpropagate?\n" * 200)
    done = ran(python, tmp_path, "-W", "error:::atbptt", "characters.py", "text.txt")
    assert done.returncode == 0, done.stderr
    assert "bits per character, K = " in done.stdout


@pytest.mark.parametrize(
    "command", ["analysis probe checkpoint.pt", "atbptt.datasets fetch ptb", "analysis table outputs"]
)
def test_a_command_that_needs_more_says_what_to_install(python: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "outputs").mkdir()
    done = ran(python, tmp_path, "-m", *command.split())
    assert (done.returncode, done.stdout) == (1, "")
    needs = 'needs the packages of experiments: pip install "atbptt[experiments]"'
    assert done.stderr.startswith(f"error: python -m {command.split()[0]} {needs}")
    assert done.stderr.count("\n") == 1
