"""Why runs failed, grouped by reason."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from atbptt.monitor import Run, trace_and_output
from atbptt.runs import STALE
from atbptt.runs.schema import FAILED

SHOWN = 40  # reasons
CHARACTERS = 12_000  # from the end of a traceback


def failures(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], int]:
    """Runs that failed, were killed or hang, by reason, the most frequent first; and how many reasons are left out.

    Each reason has the labels of its runs, and the status, traceback and output of the first of them.
    """
    kinds: dict[tuple[str, str | None], list[Run]] = defaultdict(list)
    for run in runs:
        if run.last.state in (FAILED, STALE):
            kinds[run.last.state, run.last.why].append(run)
    found = []
    for own in sorted(kinds.values(), key=len, reverse=True)[:SHOWN]:
        status = own[0].last
        trace, output = (_plain(text[-CHARACTERS:]) for text in trace_and_output(status.directory))
        found.append({"runs": [run.label for run in own], "status": status, "trace": trace, "output": output})
    return found, max(len(kinds) - SHOWN, 0)


def _plain(text: str) -> str:
    """Text without colours and other control codes of a terminal."""
    lines = (Text.from_ansi(line).plain for line in text.splitlines())
    return "\n".join("".join(sign for sign in line if sign == "\t" or sign.isprintable()) for line in lines)
