"""Why runs failed, alike failures together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from atbptt.monitor import Run, trace_and_output
from atbptt.runs import STALE, RunStatus
from atbptt.runs.schema import FAILED

SHOWN = 40  # kinds of failure
CHARACTERS = 12_000  # from the end of a traceback


@dataclass(frozen=True)
class Failure:
    """Runs that failed for the same reason, and the traceback and last output of the first of them."""

    state: str
    why: str
    runs: tuple[str, ...]
    directory: str
    facts: str
    trace: str
    output: str


def failures(runs: Sequence[Run]) -> tuple[list[Failure], int]:
    """Runs that failed, were killed or hang, by reason, the most frequent first; and how many reasons are left out.

    Arguments:
        runs: as from `atbptt.monitor.reading.Reader`.
    """
    by_reason: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        if run.last.state in (FAILED, STALE):
            by_reason.setdefault((run.last.state, run.last.why or ""), []).append(run)
    kinds = sorted(by_reason.items(), key=lambda kind: -len(kind[1]))
    return [_failure(*key, own) for key, own in kinds[:SHOWN]], max(len(kinds) - SHOWN, 0)


def _failure(state: str, why: str, runs: list[Run]) -> Failure:
    first = runs[0].last
    trace, output = (_plain(text[-CHARACTERS:]) for text in trace_and_output(first.directory))
    labels = tuple(run.label for run in runs)
    return Failure(state, why, labels, str(first.directory), _facts(first), trace, output)


def _facts(status: RunStatus) -> str:
    facts = [
        "" if status.epoch is None else f"epoch {status.epoch:.3g}",
        f"on {status.host}" if status.host else "",
        "" if status.attempt is None else f"attempt {status.attempt}",
    ]
    return ", ".join(fact for fact in facts if fact)


def _plain(text: str) -> str:
    """Text without colours and other control codes of a terminal."""
    lines = (Text.from_ansi(line).plain for line in text.splitlines())
    return "\n".join("".join(sign for sign in line if sign == "\t" or sign.isprintable()) for line in lines)
