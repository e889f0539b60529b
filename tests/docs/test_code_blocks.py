"""Every fenced block of README.md and docs/ runs.

The blocks of a page share a folder and a namespace and run in order:

- `python` is run, and `bash` line by line; `yaml` is parsed; `text` is output or a layout.
- A `python` or `yaml` block whose first line is a comment with a path is written to that file instead.
- `python launch.py` composes and checks all its jobs, and runs the first one, made small.

test_examples.py runs those of docs/examples/.
"""

import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import hydra
import matplotlib as mpl
import pytest
from omegaconf import OmegaConf

import analysis
from benchmarks.comparison.tasks import TASKS
from tests.docs.blocks import EXAMPLES, ROOT, Checkout, blocks_of, furnish
from tests.helpers.slurm import MadeUpSlurm

SKIPPED = {  # beginnings of commands that are not run, with the reason
    "make ": "installs, or takes minutes",
    "pip install ": "installs",
    "python docs/characters.py ": "test_characters.py runs it",
    "python -m atbptt.datasets fetch ": "downloads",
    "python -m benchmarks.comparison ": "takes hours",
}
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
LONG = ("docs/published.md", "docs/cookbook/sweep.md")  # to run
COMMANDS = [f"{command} " for page in PAGES for block in blocks_of(page) for command in block.commands()]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("furnished") / "checkout"
    furnish(folder)
    return folder


@pytest.fixture
def checkout(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    slurm = MadeUpSlurm(tmp_path / "slurm")  # a launcher on a cluster looks for its commands
    monkeypatch.setenv("PATH", f"{slurm.folder}{os.pathsep}{os.environ['PATH']}")
    backend = mpl.get_backend()
    mpl.use("Agg")
    folder = shutil.copytree(furnished, tmp_path / "checkout", symlinks=True)
    yield Checkout(folder, tuple(SKIPPED))
    mpl.use(backend)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page in LONG else [])
        for page in PAGES
        if blocks_of(page) and not page.startswith(EXAMPLES)
    ],
)
def test_the_blocks_of_a_page_run(page: str, checkout: Checkout) -> None:
    checkout.run_page(page)


def skipped(start: str) -> list[str]:
    """What follows the beginning of a skipped command, wherever there is one."""
    found = [command.removeprefix(start).strip() for command in COMMANDS if command.startswith(start)]
    assert found, f"no command starts with {start!r}: it needs no exception"
    return found


def test_commands_that_are_not_run_are_valid(checkout: Checkout) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(skipped("make ")) <= set(targets)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(skipped("pip install ")) <= {".", *(f"'.[{extra}]'" for extra in extras)}
    assert skipped("python docs/characters.py ")
    assert set(skipped("python -m benchmarks.comparison ")) <= {*TASKS}
    for arguments in skipped("python -m atbptt.datasets fetch "):
        with pytest.raises(AssertionError, match="nowhere"):  # that folder is missing; all else is right
            checkout.run_command(f"python -m atbptt.datasets fetch {arguments} --from nowhere")


def test_the_launcher_of_the_cookbook_runs_a_job(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks_of("docs/cookbook/launcher.md"):
        if block.file:
            checkout.run(block)
    ssh = checkout.folder / "bin" / "ssh"  # `ssh HOST COMMAND` notes its folder and arguments of python instead
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nshift\npython() { printf "%s\\n" "$PWD" "$@" > "$OLDPWD/called"; }\neval "$*"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(ssh.parent), prepend=":")
    monkeypatch.setenv("PWD", str(checkout.folder))
    with checkout.inside():
        options = OmegaConf.load("mine/hydra/launcher/ssh.yaml")
        launcher = hydra.utils.instantiate(options, hosts=["here"], python="python")
        launcher.setup(hydra_context=None, task_function=None, config=None)
        assert launcher.launch([["output_dir=by_ssh", "lr=3"]], 0) == []
    folder, *arguments = (checkout.folder / "called").read_text().splitlines()
    assert folder == str(checkout.folder)
    checkout.run_command(shlex.join(["python", *arguments]))
    assert analysis.load_status(checkout.folder / "by_ssh")["state"].tolist() == ["finished"]


@pytest.mark.parametrize(
    ("language", "text", "problem"),
    [
        ("bash", "python launch.py truncation.K=0", r"page.md:2: ConfigError: truncation.K \(=0\)"),
        ("bash", "python -m analysis \\\n  table nowhere  # why", "page.md:2: AssertionError: .*nowhere"),
        ("bash", "sudo rm", "cannot run sudo"),
        ("python", "x = 1\nassert x == 2", "page.md:2: AssertionError"),
        ("yaml", "a: [", "page.md:2: ParserError"),
        ("console", "x", "page.md:2: AssertionError: a block is"),
    ],
)
def test_a_block_that_does_not_run_is_reported_by_page_and_line(
    language: str, text: str, problem: str, checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text(f"Text\n```{language}\n{text}\n```\n")
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    with pytest.raises(AssertionError, match=problem):
        checkout.run_page("page.md")
