"""The Penn Treebank's beginning, for runs of half a minute."""

from pathlib import Path

from atbptt.system import UsageError, replacing

WHOLE, SMALL = Path("data/ptb"), Path("data/ptb_small")
LINES = {"train": 2500, "valid": 600, "test": 600}


def make_small_ptb() -> None:
    """Write the first lines of each file of the Penn Treebank to a folder of their own."""
    SMALL.mkdir(parents=True, exist_ok=True)
    for split, count in LINES.items():
        name = f"ptb.{split}.txt"
        try:
            lines = (WHOLE / name).read_text().splitlines(keepends=True)
        except FileNotFoundError as error:
            raise UsageError(f"there is no {WHOLE / name}; fetch it: python -m atbptt.datasets fetch all") from error
        with replacing(SMALL / name) as file:
            file.write_text("".join(lines[:count]))
