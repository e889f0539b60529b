"""Every fenced block of README.md and docs/ runs.

A failure names the page and the line. The blocks of a page share a folder and a namespace, and run in their order:

- `python` is run; `bash` has a command a line, which is run; `yaml` and `json` are read; `text` is output or a layout.
- A first line that is a comment with a path and nothing else names the file that a `python` or `yaml` block is written
  to instead.
- `python launch.py` composes and checks all its jobs as it stands, and runs the first two made small. What cannot be
  run here is in `UNRUNNABLE`, with the reason.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.docs.blocks import ROOT, Block, BlockError, Checkout, blocks_of, furnish

# Commands that are not run, by how they begin, and why. What `make` is asked for must be a target.
UNRUNNABLE = {
    "make ": "installs, or takes minutes; each target has its own tests",
    "pip install ": "installs; tests/test_wheel.py installs the wheel",
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


@pytest.fixture(scope="module")
def checkouts(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkout]:
    """One for each page, made when it is first asked for."""

    class Made(dict[str, Checkout]):
        def __missing__(self, page: str) -> Checkout:
            folder = tmp_path_factory.mktemp("page") / "checkout"
            shutil.copytree(furnished, folder, symlinks=True)
            self[page] = Checkout(folder, unrunnable)
            return self[page]

    return Made()


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("ATBPTT_CACHE", str(tmp_path / "cache"))
    before = mpl.get_backend()
    mpl.use("Agg")
    yield
    mpl.use(before)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_it_runs(block: Block, checkouts: dict[str, Checkout]) -> None:
    checkouts[block.page].run(block)


def test_what_make_is_asked_for_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = [
        (block.where, command.split()[1]) for block in BLOCKS for command in _commands(block) if command[:5] == "make "
    ]
    assert asked
    assert [each for each in asked if each[1] not in targets] == []


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
def test_a_block_that_does_not_run_fails(
    language: str, text: str, problem: str | None, furnished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(furnished, folder, symlinks=True)
    with pytest.raises(Exception, match=problem) as raised:
        Checkout(folder, unrunnable)._run(Block("page.md", 3, language, f"{text}\n"))
    assert isinstance(raised.value, BlockError) or language in ("python", "yaml")


def test_blocks_are_found_with_their_lines_also_within_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (
        "- a list\n  ```python\n  x = 1\n    # more\n  ```\n\n````text\n```bash\n````\n```bash\n# why\na \\\n  b\n```\n"
    )
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    blocks = blocks_of("page.md")
    assert [(block.where, block.language, block.text) for block in blocks] == [
        ("page.md:2", "python", "x = 1\n  # more\n"),
        ("page.md:7", "text", "```bash\n"),
        ("page.md:10", "bash", "# why\na \\\n  b\n"),
    ]
    assert blocks[2].commands() == ["a b"]
