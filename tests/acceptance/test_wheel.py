"""The wheel in clean environments: with torch, numpy and their requirements only, and with all that runs need."""

import contextlib
import re
import shutil
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.helpers.projects import POLICY

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "tree").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, folder / "tree")
    for name in ("atbptt", "analysis", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, folder / "tree" / name, symlinks=True, ignore=ignored)
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
    interpreter, site = environment(tmp_path_factory.mktemp("environment"))
    for name in needed_by("torch", "numpy"):
        of = distribution(name)
        for top in {Path(file).parts[0] for file in of.files or []} - {"..", "__pycache__"}:
            (site / top).symlink_to(Path(str(of.locate_file(top))))
    install(wheel, interpreter)
    return interpreter


@pytest.fixture(scope="module")
def atbptt(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `atbptt` of an environment with the wheel and all packages of this one, but not this checkout."""
    interpreter, site = environment(tmp_path_factory.mktemp("full"))
    folders = {str(Path(str(distribution(name).locate_file("."))).resolve()) for name in ("torch", "hydra-core")}
    (site / "packages.pth").write_text("\n".join(folders))
    install(wheel, interpreter)
    return interpreter.with_name("atbptt")


def environment(folder: Path) -> tuple[Path, Path]:
    """The interpreter and the packages' folder of a new environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    (site,) = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", site


def install(wheel: Path, python: Path) -> None:
    options = ["--no-deps", "--no-index", "--ignore-installed", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    subprocess.run(command, check=True, timeout=120)


def ran(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a clean environment, outside the checkout."""
    environment = {"PATH": "", "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300)


def test_the_wheel_has_all_files_in_one_package(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(root).as_posix() for path in (root / "atbptt").rglob("*.py")}
    beside = [path for folder in ("analysis", "conf") for path in (root / folder).rglob("*.*") if path.is_file()]
    linked = {f"atbptt/{path.relative_to(root).as_posix()}" for path in beside if path.suffix not in (".pyc", ".ipynb")}
    assert names == {*modules, *linked, "atbptt/py.typed"}
    assert len(modules) > 60
    assert len(linked) > 100


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


@pytest.mark.parametrize("command", ["launch --help", "launch lr=1", "fetch ptb", "table outputs", "probe RUN"])
def test_a_command_that_needs_more_says_what_to_install(python: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "outputs").mkdir()
    done = ran(python.with_name("atbptt"), tmp_path, *command.split())
    assert (done.returncode, done.stdout) == (1, "")
    needs = "needs the packages of experiments: pip install '.[experiments]' in the clone"
    assert done.stderr.startswith(f"error: atbptt {command.split()[0]} {needs}")
    assert done.stderr.count("\n") == 1


def test_a_sweep_and_its_report_from_an_empty_folder(atbptt: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    """A user's class beside is found, in the runs' processes too; a user's folder analysis/ hides nothing."""
    for name in ("analysis", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('this is the user's')")
    (tmp_path / "mine.py").write_text(textwrap.dedent(POLICY))
    own = ("truncation=fixed", "truncation._target_=mine.Mine", "truncation.K=4")
    for arguments in (("truncation=adaptive",), own):
        done = ran(atbptt, tmp_path, "launch", "-m", *arguments, "lr=1,10", *tiny)
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 runs in " in done.stdout
        assert "see: atbptt table outputs/copy_fixed\n" in done.stdout
    python = atbptt.with_name("python")
    for command in ([atbptt, "report"], [python, "-m", "atbptt.analysis", "report"]):
        done = ran(*command[:1], tmp_path, *command[1:], "outputs")
        assert (done.returncode, done.stdout) == (0, "outputs/report.html\n"), done.stderr
    done = ran(atbptt, tmp_path, "status", "outputs")
    assert f"atbptt launch -m {' '.join(own)} lr=1,10 " in done.stdout
    frame = "from atbptt import analysis; print(len(analysis.load_options('outputs')))"
    assert ran(python, tmp_path, "-c", frame).stdout == "4\n"


@pytest.mark.parametrize("asked", ["--help", "--cfg job", "--info", "--shell-completion install=bash"])
def test_what_hydra_answers(atbptt: Path, tmp_path: Path, asked: str) -> None:
    done = ran(atbptt, tmp_path, "launch", *asked.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
