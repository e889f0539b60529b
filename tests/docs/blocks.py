"""The fenced code blocks of the pages, and a folder that looks like a checkout to run them in."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import yaml

from atbptt.config.settings import Settings, validated
from atbptt.errors import ConfigError
from atbptt.sweeps.planning import compose, plan
from atbptt.training.experiment import run

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<language>[^`]*)")
FILE = re.compile(r"# (?P<path>[\w./-]+\.\w+)")  # a first line that is a path and nothing else
JOBS = 2  # of a command line that are run; all are composed and checked
SHELL = ("cat", "cp", "echo", "head", "ls", "mkdir", "mv", "tail", "wc")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: relative to the repository.
        line: of its fence, from 1.
        language: behind the fence.
        text: without the fences' indent.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that it is written to, where its first line is a path."""
        found = FILE.fullmatch(self.text.partition("\n")[0].strip())
        return found["path"] if found and self.language in ("python", "yaml") else None

    def commands(self) -> list[str]:
        """Its lines that are commands, joined where they go on, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [" ".join(line.split()) for line in lines if line.strip() and not line.strip().startswith("#")]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page in their order."""
    found, opened, lines = [], None, []
    for number, line in enumerate((ROOT / page).read_text().splitlines(), start=1):
        mark = FENCE.fullmatch(line.rstrip())
        if opened is None and mark:
            opened, lines = (number, mark), []
        elif opened is not None and mark and mark["mark"] == opened[1]["mark"] and not mark["language"]:
            language = opened[1]["language"].strip().partition(" ")[0]
            found.append(Block(page, opened[0], language, textwrap.dedent("\n".join(lines)) + "\n"))
            opened = None
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"{page}:{opened[0]}: the block does not end"
    return found


class BlockError(AssertionError):
    """What is wrong with a block."""


class Checkout:
    """A folder that looks like a checkout with two finished runs, for the blocks of one page.

    Arguments:
        folder: of its own, a copy of what `furnish` made.
        unrunnable: why a command cannot run here, or None where it can.
    """

    drawn: ClassVar[set[str]] = set()  # what takes long and was drawn once, on whatever page

    def __init__(self, folder: Path, unrunnable: Callable[[str], str | None]) -> None:
        self.folder = folder
        self.unrunnable = unrunnable
        self.namespace: dict[str, Any] = {"__name__": "__main__"}

    def run_page(self, page: str) -> None:
        """Run the blocks of a page in their order, up to the first that fails (BlockError with page and line)."""
        for block in blocks_of(page):
            try:
                self.run(block)
            except (Exception, SystemExit) as error:
                raise BlockError(f"{block.where}: {type(error).__name__}: {error}") from error

    def run(self, block: Block) -> None:
        """Run a block."""
        if block.file is not None:
            path = self.folder / block.file
            assert path.resolve().is_relative_to(self.folder), "a block writes below its folder only"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(block.text)
            _parse(block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "bash":
            for command in block.commands():
                self._command(command)
        elif block.language in ("yaml", "json"):
            _parse(block)
        elif block.language != "text":
            raise BlockError(
                f"{block.where}: a block is python, bash, yaml, json or text, and this is {block.language!r}"
            )

    def _python(self, block: Block) -> None:
        lines_before = "\n" * block.line  # so that a traceback has the page's lines
        code = compile(lines_before + block.text, str(ROOT / block.page), "exec")
        with self.inside():
            exec(code, self.namespace)

    def _command(self, command: str) -> None:
        words = shlex.split(command, comments=True)
        if self.unrunnable(shlex.join(words)) is not None:
            return
        if any(word in ("|", "&&", ";", ">", "2>&1") for word in words):
            raise BlockError(f"{command}: a pipe or the like is not run; name it in UNRUNNABLE with a reason")
        words = [word for pattern in words for word in self._expanded(pattern)]
        if words[:3] == ["python", "-m", "analysis"] and words[3] in ("figures", "report"):
            if words[3] in self.drawn:  # half a minute together: the second time only whether the runs are there
                words = [*words[:3], "status", words[4]]
            self.drawn.add(words[3])
        if words[:2] == ["python", "launch.py"]:
            self._launch(words[2:])
        elif words[:2] == ["python", "-m"]:
            sys.modules.pop(f"{words[2]}.__main__", None)  # that another test imported: runpy warns of it
            self._call(command, words[3:], lambda: runpy.run_module(words[2], run_name="__main__", alter_sys=True))
        elif words[0] in SHELL:
            done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=30)
            if done.returncode:
                raise BlockError(f"{command}: {done.stderr}")
        else:
            raise BlockError(f"{command}: nothing here runs {words[0]}; name it in UNRUNNABLE with a reason")

    def _expanded(self, word: str) -> list[str]:
        """A pattern as a shell expands it; but not an option's."""
        if "*" not in word or "=" in word:
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word)) or [word]

    def _call(self, command: str, arguments: list[str], call: Callable[[], Any]) -> None:
        """Run a program in this process, as __main__: importing torch anew would take longer than all it does."""
        printed = io.StringIO()
        with self.inside(["", *arguments]), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                call()
                code: Any = 0
            except SystemExit as end:
                code = end.code
            except Exception:
                code = traceback.format_exc()
        if code not in (None, 0):
            raise BlockError(f"{command}: exit code {code}\n{printed.getvalue()}")

    def _launch(self, arguments: list[str]) -> None:
        """Compose and check all jobs of a command line as it stands; run the first ones, made small."""
        with self.inside():
            try:
                composed = compose(arguments, self.folder / "conf")
                if composed is None:  # --help and the like
                    done = subprocess.run(
                        [sys.executable, "launch.py", *arguments], capture_output=True, text=True, timeout=60
                    )
                    assert done.returncode == 0, done.stderr
                    return
                planned = plan(composed)
                assert planned.jobs
                if not planned.preview:
                    for job in planned.jobs[:JOBS]:
                        run(small(job.settings))
            except ConfigError as error:
                raise BlockError(f"python launch.py {shlex.join(arguments)}: error: {error}") from error

    @contextlib.contextmanager
    def inside(self, arguments: list[str] | None = None) -> Iterator[None]:
        """In the folder, with its modules and nobody else's of the same names."""
        before = os.getcwd(), list(sys.path), list(sys.argv)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        sys.argv = list(arguments or [""])
        try:
            yield
        finally:
            os.chdir(before[0])
            sys.path[:], sys.argv = before[1:]
            for name, module in list(sys.modules.items()):
                if (getattr(module, "__file__", None) or "").startswith(f"{self.folder}/"):
                    del sys.modules[name]


def _parse(block: Block) -> None:
    if block.language == "python":
        compile(block.text, block.where, "exec")
    elif block.language == "yaml":
        yaml.safe_load(block.text)
    else:
        json.loads(block.text)


def small(settings: Settings) -> Settings:
    """The same run at a size that takes a fraction of a second."""
    dump = settings.model_dump()
    sizes = {"train_steps": 60, "valid_steps": 30, "test_steps": 30, "min_length": 2, "max_length": 2, "batch_size": 4}
    generated = "train_steps" in dump["dataset"]
    dump["dataset"] |= {name: size for name, size in sizes.items() if generated and name in dump["dataset"]}
    dump["model"] |= {name: 6 for name in ("hidden", "embedding") if dump["model"].get(name) is not None}
    dump["probe"] = {"window": 12, "tau": 8, "burn_in": 4, "positions": 2, "resamples": 5}
    # Files are small, but for a reader's own.
    dump |= {"epochs": min(settings.epochs, 2.0 if generated else 0.2), "evaluate_every": 1.0}
    return validated(dump)


def furnish(folder: Path) -> None:
    """Make a folder look like a checkout: code, two finished runs, small files in place of data sets.

    The runs are those of `python launch.py -m truncation=adaptive lr=1,10`, made small; and one of the experiment
    copy_fixed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("analysis", "atbptt", "benchmarks", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("README.md", "Makefile", "launch.py"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    _data(folder)
    checkout = Checkout(folder, lambda _: None)
    for command in ("-m truncation=adaptive lr=1,10", "experiment=copy_fixed arm=delta0.9"):
        checkout._launch(command.split())
    runs = sorted((folder / "outputs" / "copy_fixed").iterdir())
    (folder / "PATH").symlink_to("outputs/copy_fixed")
    (folder / "RUN").symlink_to(runs[0].relative_to(folder))
    (folder / "CHECKPOINT").symlink_to((runs[0] / "checkpoint.pt").relative_to(folder))


def _data(folder: Path) -> None:
    """Texts of 30 words, 100 sequences of events, symbols: large enough for the published probes and batches."""
    generator = np.random.default_rng(0)

    def text(words: int) -> str:
        drawn = generator.integers(30, size=(words // 10, 10))
        return "\n".join(" ".join(f"word{word}" for word in line) for line in drawn) + "\n"

    places = {
        "data/ptb": "ptb.{}.txt",
        "data/wikitext-2": "{}.txt",
        "FOLDER": "{}.txt",
        "mine": "{}.txt",
    }
    for place, pattern in places.items():
        (folder / place).mkdir(parents=True)
        for split, words in (("train", 16_000), ("valid", 8_000), ("test", 8_000)):
            (folder / place / pattern.format(split)).write_text(text(words))
    for place, name in (("data/book_order", "{}-1-{}.txt"), ("FOLDER", "{}-{}.txt")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for split, steps in (("train", 200), ("valid", 200), ("test", 400)):
            events = generator.integers(1, 3, size=(100, steps))
            times = generator.exponential(size=(100, steps)).cumsum(axis=1)
            for kind, rows in (("event", events), ("time", times)):
                lines = "\n".join(" ".join(f"{value:.10g}" for value in row) for row in rows)
                (folder / place / name.format(kind, split)).write_text(lines + "\n")
    parts = itertools.product(("train", "valid", "test"), ("inputs", "targets"))
    arrays = {f"{split}_{part}": generator.integers(6, size=(300, 64)) for split, part in parts}
    np.savez(folder / "FILE.npz", **arrays)
    np.savez(folder / "released_copy_fixed.npz", **arrays)
