"""Runs the fenced code blocks of a page in a folder that looks like a checkout."""

import contextlib
import importlib
import io
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import yaml

from atbptt.config.settings import Settings, validated
from atbptt.sweeps.planning import compose, plan
from atbptt.training.experiment import run

ROOT = Path(__file__).parents[2]
EXAMPLES = "docs/examples/"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:# @package _global_\n)?# ([\w./-]+\.\w+)\n")  # a first line that is a path and nothing else


class Block(NamedTuple):
    page: str
    line: int  # of the fence
    language: str
    text: str

    @property
    def file(self) -> str | None:
        return found[1] if (found := FILE.match(self.text)) else None

    def commands(self) -> list[str]:
        """The commands of a bash block: continued lines are joined, comments are removed."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.language == "bash" else []
        return [shlex.join(words) for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    blocks = [Block(page, text.count("\n", 0, found.start()) + 1, *found.groups()) for found in FENCE.finditer(text)]
    assert text.count("```") == 2 * len(blocks), f"{page}: a fence is not at the start of a line, or not closed"
    return blocks


class Checkout:
    """A folder made by `furnish`, and the names that the blocks of one page define; runs no `skipped` commands."""

    drawn: ClassVar[list[str]] = []  # figures and reports take long: one is drawn, for one page

    def __init__(self, folder: Path, skipped: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.skipped = skipped
        self.namespace: dict[str, Any] = {"__name__": "__main__"}

    def run_page(self, page: str) -> None:
        """Run the blocks of a page in order."""
        for block in blocks_of(page):
            try:
                self.run(block)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{page}:{block.line}: {type(error).__name__}: {error}") from error

    def run(self, block: Block) -> None:
        if block.language == "yaml":
            yaml.safe_load(block.text)
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "python":
            lines_before = "\n" * block.line  # so that a traceback has the page's lines
            with self.inside():
                exec(compile(lines_before + block.text, str(ROOT / block.page), "exec"), self.namespace)
        elif block.language == "bash":
            for command in block.commands():
                if not f"{command} ".startswith(self.skipped):
                    self.run_command(command)
        else:
            assert block.language in ("text", "yaml"), f"a block is python, bash, yaml or text, not {block.language!r}"

    def run_command(self, command: str) -> None:
        """Run a command in this process: importing torch in a new one takes longer than most commands."""
        words = shlex.split(command)
        if words[:2] == ["python", "launch.py"]:
            self._launch(words[2:])
        elif words[:2] == ["python", "-m"]:
            if words[3] in ("figures", "report"):
                words[3] = "status" if self.drawn else words[3]
                self.drawn.append(words[3])
            self._call(words[2], words[3:])
        else:
            raise AssertionError(f"{command}: cannot run {words[0]}; list it in SKIPPED with a reason")

    def _call(self, module: str, arguments: list[str]) -> None:
        printed = io.StringIO()
        with self.inside(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = importlib.import_module(f"{module}.__main__").main(arguments)
        assert code == 0, f"{module} {shlex.join(arguments)}: {printed.getvalue()}"

    def _launch(self, arguments: list[str]) -> None:
        """Compose and check all jobs of a command line, and run the first one, made small."""
        with self.inside():
            composed = compose(arguments, self.folder / "conf")
            if composed is None:  # --help
                return
            planned = plan(composed)
            if not composed.command.preview:
                run(small(planned.jobs[0].settings))

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Within, the folder is the current one and its modules can be imported."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.syspath_prepend(self.folder)
            patch.setattr(sys, "argv", [""])
            yield
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{self.folder}/"):
                del sys.modules[name]


def small(settings: Settings) -> Settings:
    """The same run at a size that takes a fraction of a second."""
    dump = settings.model_dump()
    sizes = {"train_steps": 60, "valid_steps": 30, "test_steps": 30, "min_length": 2, "max_length": 2, "batch_size": 4}
    generated = "train_steps" in dump["dataset"]
    dump["dataset"] |= {name: size for name, size in sizes.items() if generated and name in dump["dataset"]}
    dump["model"] |= {name: 6 for name in ("hidden", "embedding") if dump["model"].get(name) is not None}
    if settings.probe is not None:
        dump["probe"] = {"window": 12, "tau": 8, "burn_in": 4, "positions": 2, "resamples": 5}
    dump |= {"epochs": min(settings.epochs, 2.0 if generated else 0.2), "evaluate_every": 1.0}
    return validated(dump)


def furnish(folder: Path) -> None:
    """Make a folder look like a checkout: code, small data sets, and finished runs of two commands."""
    folder.mkdir(parents=True)
    for name in ("README.md", "launch.py", "atbptt", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "conf", folder / "conf")
    _write_data(folder)
    checkout = Checkout(folder)
    noted = "truncation=adaptive tags=night notes='first try'"
    for command in (noted, "truncation=adaptive lr=10", "experiment=copy_fixed arm=delta0.9"):
        checkout.run_command(f"python launch.py {command}")
    first = min((folder / "outputs" / "copy_fixed").iterdir())
    (folder / "PATH").symlink_to("outputs/copy_fixed")
    (folder / "RUN").symlink_to(first.relative_to(folder))


def _write_data(folder: Path) -> None:
    """Texts, events and symbols, large enough for the published probes and batches."""
    generator = np.random.default_rng(0)
    splits = ("train", "valid", "test")
    texts = {
        "data/ptb": "ptb.{}.txt",
        **dict.fromkeys(("data/wikitext-2", "FOLDER", "mine"), "{}.txt"),
        "documents": "{}-essay.txt",
    }
    for place, name in texts.items():
        (folder / place).mkdir(parents=True)
        for split, lines in zip(splits, (1600, 800, 800), strict=True):
            words = generator.integers(30, size=(lines, 10))
            np.savetxt(folder / place / name.format(split), words, fmt="word%d")
    for place, name in (("data/book_order", "{}-1-{}.txt"), ("FOLDER", "{}-{}.txt")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        for split, steps in zip(splits, (200, 200, 400), strict=True):
            events = generator.integers(1, 3, size=(100, steps))
            times = generator.exponential(size=(100, steps)).cumsum(axis=1)
            np.savetxt(folder / place / name.format("event", split), events, fmt="%d")
            np.savetxt(folder / place / name.format("time", split), times, fmt="%.10g")
    symbols = generator.integers(6, size=(300, 64))
    arrays = {f"{split}_{part}": symbols for split in splits for part in ("inputs", "targets")}
    for name in ("FILE.npz", "released_copy_fixed.npz"):
        np.savez(folder / name, **arrays)
