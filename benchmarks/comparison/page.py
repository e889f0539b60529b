"""docs/comparison.md: the tables between its two marks, and their figure, made anew from the stored runs."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pandas as pd

from analysis.statistics import COMPLETE, is_perplexity
from analysis.tables import cells
from atbptt.system import write_text
from benchmarks.comparison.comparing import Comparison, chosen_runs, compared
from benchmarks.comparison.figure import differences
from benchmarks.comparison.rounds import run_name
from benchmarks.comparison.tasks import SCHEMES, ComparedTask

PAGE = Path("docs/comparison.md")
FIGURE = "comparison.png"  # beside it
ALT = "Difference in test value from the best fixed K after equal processor time, by task, policy and scheme"
MARKS = "<!-- tables of make compare: begin -->", "<!-- tables of make compare: end -->"
HEADINGS = (
    "policy",
    "lr",
    "K",
    "valid, equal epochs",
    "test, equal epochs",
    "test, equal time",
    "against {}, equal time",
    "95 %",
    "p",
    "verdict",
    "test, `phase=fixed`",
)


def write_page(tasks: Iterable[ComparedTask], results: Path) -> None:
    """Put the tables and the figure of the tasks that have results in place of those on the page."""
    found = [each for task in tasks for each in _comparisons(task, results)]
    before, rest = PAGE.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    tables = [line for each in found for line in table(each)]
    write_text(PAGE, "\n".join([before + MARKS[0], "", f"![{ALT}]({FIGURE})", "", *tables, MARKS[1] + after]))
    differences(found).savefig(PAGE.parent / FIGURE, dpi=110)


def _comparisons(task: ComparedTask, results: Path) -> Iterator[Comparison]:
    for scheme in SCHEMES:
        if (folder := results / run_name(task, scheme)).exists():
            yield compared(task.title, scheme, chosen_runs(task, scheme, folder))


def table(found: Comparison) -> Iterator[str]:
    """Heading, paragraph and table."""
    log = is_perplexity(found.metric)
    shown: Callable[[Callable[..., str]], Callable[..., str]] = cells.in_percent if log else lambda text: text
    difference, interval = shown(cells.difference), shown(cells.difference_interval)
    measure = cells.measure_name(found.metric)
    yield f"### {found.title}, `scheme={found.scheme}`\n"
    yield (
        f"{measure}, mean (sd). Equal time is {found.seconds:.3g} s of the processor; the best fixed K then is "
        f"{found.best}.\n"
    )
    yield _row([heading.format(f"{found.best}{', %' if log else ''}") for heading in HEADINGS])
    yield _row(["---"] * len(HEADINGS))
    for policy in [*found.time.sort_values("test_mean").index, *found.fixed.index.difference(found.time.index)]:
        pair = found.pairs.loc[policy] if policy in found.pairs.index else None
        rows = found.epochs if policy in found.epochs.index else found.fixed
        lost = int(rows.loc[policy, "of"] - (rows.loc[policy, "ending"] == COMPLETE) * rows.loc[policy, "runs"])
        yield _row(
            [
                policy + (f" ({lost} of {rows.loc[policy, 'of']} diverged)" if lost else ""),
                f"{found.rates[policy]:g}",
                found.lengths[policy],
                _mean(found.epochs, policy, "valid"),
                _mean(found.epochs, policy, "test"),
                _mean(found.time, policy, "test"),
                "" if pair is None else difference(*pair[cells.moments("test")]),
                "" if pair is None else interval(*pair[cells.moments("test")], pair["pairs"]),
                "" if pair is None else cells.probability(pair["p"]),
                "" if pair is None else pair["verdict"],
                _mean(found.fixed, policy, "test"),
            ]
        )
    yield ""


def _mean(rows: pd.DataFrame, policy: str, name: str) -> str:
    return (
        "" if policy not in rows.index else cells.mean_sd(*rows.loc[[policy], cells.moments(name)].to_numpy(float)[0])
    )


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
