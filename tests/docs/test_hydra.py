"""The page on Hydra names every internal of Hydra's that the code uses, and tests that exist."""

import re
from pathlib import Path

from hydra._internal.utils import get_args_parser

from atbptt.config.hydra_options import FIXED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hydra.md").read_text()
INTERNAL = re.compile(r"hydra\._internal\.([\w.]+)(?: import ([\w, ]+))?")
ROW = re.compile(r"^\| `([\w.]+)` \|.*`(tests/[\w/]+\.py)(?:::(\w+))?` \|$", re.MULTILINE)


def used() -> set[str]:
    """The names of `hydra._internal` in the code of runs and of launch.py."""
    found = set()
    for file in [
        ROOT / "launch.py",
        *(path for folder in ("atbptt", "benchmarks") for path in (ROOT / folder).rglob("*.py")),
    ]:
        for module, names in INTERNAL.findall(file.read_text()):
            found |= {f"{module}.{name.split()[0]}" for name in names.split(",")} if names else {module}
    return found


def test_the_table_has_each_internal_of_hydra_that_the_code_uses() -> None:
    rows = ROW.findall(PAGE)
    assert {name for name, _, _ in rows} == used()
    for _, file, test in rows:
        assert f"def {test}" in (ROOT / file).read_text()


def test_the_page_has_each_flag_and_each_refused_option() -> None:
    flags = [action.option_strings[0] for action in get_args_parser()._actions if action.option_strings]
    silent = {"--help", "--run", "--config-dir"}  # as everywhere, or named with others
    assert [flag for flag in flags if flag not in silent and f"`{flag}`" not in PAGE] == []
    own = {"job.num", "job.id", "runtime.output_dir", "sweeper.max_batch_size", "env"}  # named in other words
    assert [name for name in FIXED if name not in own and f"`hydra.{name}`" not in PAGE] == []
