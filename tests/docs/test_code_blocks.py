"""Every fenced block of README.md and docs/ runs.

The blocks of a page share a folder and a namespace, and run in their order up to the first that fails, which the
message names by page and line:

- `python` is run; `bash` has a command a line, which is run; `yaml` and `json` are read; `text` is output or a layout.
- A first line that is a comment with a path and nothing else names the file that a `python` or `yaml` block is written
  to instead.
- `python launch.py` composes and checks all its jobs as it stands, and runs the first two made small. What cannot be
  run here is in `UNRUNNABLE`, with the reason.
"""

from __future__ import annotations

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
from atbptt.datasets.__main__ import _parser
from atbptt.datasets.fetching import ALL
from atbptt.datasets.sources import SOURCES
from tests.docs.blocks import ROOT, Block, BlockError, Checkout, blocks_of, furnish

# Commands that are not run, by how they begin, and why. What `make` is asked for must be a target.
UNRUNNABLE = {
    "make ": "installs, or takes minutes; each target has its own tests",
    "pip install ": "installs; tests/acceptance/test_wheel.py installs the wheel",
    "python docs/characters.py ": "tests/docs/test_characters.py runs it",
    "python -m atbptt.datasets fetch ": "downloads; tests/datasets/test_fetching.py fetches from a server of its own",
}
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def unrunnable(command: str) -> str | None:
    """Why a command is not run; None where it is."""
    return next((reason for start, reason in UNRUNNABLE.items() if f"{command} ".startswith(start)), None)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("furnished") / "checkout"
    furnish(folder)
    return folder


@pytest.fixture
def checkout(furnished: Path, tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    shutil.copytree(furnished, folder, symlinks=True)
    return Checkout(folder, unrunnable)


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    mpl.use(before)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_the_blocks_of_a_page_run(page: str, checkout: Checkout) -> None:
    checkout.run_page(page)


def test_what_make_is_asked_for_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [
        (block.where, command.split()[1]) for block in BLOCKS for command in _commands(block) if command[:5] == "make "
    ]
    assert asked
    assert [each for each in asked if each[1] not in targets] == []


def test_what_pip_is_asked_for_is_an_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = mentioned(r"pip install [^`\n]*\.\[([\w,-]+)\]")
    assert asked
    assert [each for each in asked if not set(each[1].split(",")) <= set(extras)] == []


def test_what_is_fetched_is_a_data_set() -> None:
    asked = mentioned(r"python -m atbptt\.datasets ([^`\n#]+)")
    assert asked
    for page, arguments in asked:
        options = _parser().parse_args(shlex.split(arguments))
        assert options.name in (*SOURCES, ALL), page


def mentioned(pattern: str) -> list[tuple[str, str]]:
    """(page, group 1) wherever a page has the pattern, in a block or not."""
    return [(page, found) for page in PAGES for found in re.findall(pattern, (ROOT / page).read_text())]


def test_the_launcher_of_the_cookbook_runs_a_job(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks_of("docs/cookbook/launcher.md"):
        if block.file:
            checkout.run(block)
    scripts = {  # ssh HOST COMMAND on this machine, and a python that notes where it is and what it is asked for
        "ssh": 'shift\nexec sh -c "$*"',
        "python": f'printf \'%s\\n\' "$PWD" "$@" > {shlex.quote(str(checkout.folder / "called"))}',
    }
    for name, text in scripts.items():
        path = checkout.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    monkeypatch.setenv("PWD", str(checkout.folder))
    with checkout.inside():
        options = OmegaConf.load("mine/hydra/launcher/ssh.yaml")
        launcher = hydra.utils.instantiate(options, hosts=["here"], python="python")
        launcher.setup(hydra_context=None, task_function=None, config=None)
        assert launcher.launch([["output_dir=by_ssh", "lr=3"]], 0) == []
    folder, *asked = (checkout.folder / "called").read_text().splitlines()
    assert folder == str(checkout.folder)
    checkout.run(Block("called", 1, "bash", shlex.join(["python", *asked])))
    assert analysis.load_status(checkout.folder / "by_ssh")["state"].tolist() == ["finished"]


def test_every_reason_is_needed() -> None:
    commands = [f"{command} " for block in BLOCKS for command in _commands(block)]
    assert [start for start in UNRUNNABLE if not any(command.startswith(start) for command in commands)] == []


def _commands(block: Block) -> list[str]:
    return block.commands() if block.language == "bash" else []


@pytest.mark.parametrize(
    ("language", "text", "problem"),
    [
        ("bash", "python launch.py truncation.K=0", "K \\(=0\\) must be at least 1"),
        ("bash", "python launch.py lr=1,10", "a sweep: add -m"),
        ("bash", "python -m analysis table nowhere", "nowhere"),
        ("bash", "sudo rm", "nothing here runs sudo"),
        ("bash", "cat launch.py | head", "UNRUNNABLE"),
        ("bash", "cat nowhere", "No such file"),
        ("python", "assert 1 == 2", None),
        ("", "x", "a block is"),
        ("console", "x", "a block is"),
        ("yaml", "a: [", None),
    ],
)
def test_a_block_that_does_not_run_fails(language: str, text: str, problem: str | None, checkout: Checkout) -> None:
    with pytest.raises(Exception, match=problem) as raised:
        checkout.run(Block("page.md", 3, language, f"{text}\n"))
    assert isinstance(raised.value, BlockError) or language in ("python", "yaml")


def test_a_page_ends_at_the_first_block_that_fails(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "```python\nx = 1\n```\n\n~~~python\nassert x == 2\n~~~\n```bash\nls nowhere\n```\n"
    (tmp_path / "page.md").write_text(text)
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    with pytest.raises(BlockError, match=r"^page.md:5: AssertionError"):
        checkout.run_page("page.md")


def test_blocks_are_found_with_their_lines_also_within_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (
        "- a list\n  ```python\n  x = 1\n    # more\n  ```\n\n````text\n```bash\n````\n```bash\n# why\na \\\n  b\n```\n"
        "~~~yaml\na: 1\n```\n~~~\n"
    )
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    blocks = blocks_of("page.md")
    assert [(block.where, block.language, block.text) for block in blocks] == [
        ("page.md:2", "python", "x = 1\n  # more\n"),
        ("page.md:7", "text", "```bash\n"),
        ("page.md:10", "bash", "# why\na \\\n  b\n"),
        ("page.md:15", "yaml", "a: 1\n```\n"),
    ]
    assert blocks[2].commands() == ["a b"]
