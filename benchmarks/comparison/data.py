"""The data of the tasks that are not generated; of the Penn Treebank the beginning, for runs of half a minute."""

from pathlib import Path

from atbptt.system import UsageError, replacing

WHOLE, SMALL = Path("data/ptb"), Path("data/ptb_small")
FILES = {"ptb": WHOLE / "ptb.train.txt", "book_order": Path("data/book_order/event-1-train.txt")}
LINES = {"train": 2500, "valid": 600, "test": 600}


def check_data(task: str) -> None:
    """Raise a UsageError if the files of a task are not there."""
    if task in FILES and not FILES[task].exists():
        raise UsageError(f"there is no {FILES[task]}; fetch it: python -m atbptt.datasets fetch all")


def make_small_ptb() -> None:
    """Write the first lines of each file of the Penn Treebank to a folder of their own."""
    SMALL.mkdir(parents=True, exist_ok=True)
    for split, count in LINES.items():
        name = f"ptb.{split}.txt"
        lines = (WHOLE / name).read_text().splitlines(keepends=True)
        with replacing(SMALL / name) as file:
            file.write_text("".join(lines[:count]))
