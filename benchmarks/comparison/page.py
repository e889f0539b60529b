"""docs/comparison.md: the tables between its two marks, made anew from the stored runs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

import analysis
from analysis.statistics import ID, options_of, paired_differences, policies, summarize, validation_metrics
from analysis.tables import cells
from atbptt.errors import AnalysisError
from atbptt.system import write_text
from benchmarks.comparison.rounds import endings_of, run_name, runs_of, scores_of
from benchmarks.comparison.tasks import SCHEMES, ComparedTask

PAGE = Path("docs/comparison.md")
MARKS = "<!-- tables of make compare: begin -->", "<!-- tables of make compare: end -->"
SHARES = 0.05, 0.95  # quantiles of the K that a policy uses
PROGRESS = "progress"
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
    """Put the tables of the tasks that have results in place of those on the page."""
    before, rest = PAGE.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    parts = [part for task in tasks for part in _task(task, results)]
    write_text(PAGE, "\n".join([before + MARKS[0], "", *parts, MARKS[1] + after]))


def _task(task: ComparedTask, results: Path) -> Iterator[str]:
    for scheme in SCHEMES:
        folder = results / run_name(task, scheme)
        try:
            frame = chosen_runs(task, scheme, folder)
        except AnalysisError:  # not run yet
            continue
        yield f"### {task.title}, `scheme={scheme}`\n"
        yield from table(frame)


def chosen_runs(task: ComparedTask, scheme: str, folder: Path) -> pd.DataFrame:
    """The runs of each setting at its best lr, as from `analysis.load`."""
    runs = endings_of(folder)
    kept: set[str] = set()
    for setting in task.settings(scheme):
        scores = scores_of(runs, task, setting)
        kept |= {*runs_of(runs, setting, lr=min(scores, key=lambda lr: scores[lr]))[ID]}
    frame = analysis.load(folder)
    return frame[frame[ID].isin(kept)]


def within(frame: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """What the runs had done after so many seconds of the processor, which becomes their whole budget."""
    return frame[frame["compute_seconds"] <= seconds].drop(columns="epochs")


def table(frame: pd.DataFrame) -> Iterator[str]:
    """Paragraph and table of one task and scheme; `frame` is as from `chosen_runs`."""
    random, fixed = (frame[frame["phase"] == phase] for phase in ("random", "fixed"))
    limit = random.groupby(ID, observed=True)["compute_seconds"].max().min()
    timed = within(random, limit)
    after_time, after_epochs, of_fixed = (summarize(each).set_index("policy") for each in (timed, random, fixed))
    lengths = after_time[after_time.index.str.startswith("fixed")]
    best = str(lengths["valid_mean"].idxmin())
    pairs = paired_differences(timed, against=best).set_index("policy")
    log = validation_metrics(frame).iloc[0] == "valid_ppl"
    shown: Callable[[Callable[..., str]], Callable[..., str]] = cells.in_percent if log else lambda text: text
    difference, interval = shown(cells.difference), shown(cells.difference_interval)
    options = options_of(frame)
    names = policies(options)
    rates = dict(zip(names, options["lr"], strict=True))
    used = lengths_used(frame, dict(zip(options[ID], names, strict=True)))
    measure = cells.measure_name(validation_metrics(frame).iloc[0])
    yield f"{measure}, mean (sd). Equal time is {limit:.3g} s of the processor; the best fixed K then is {best}.\n"
    yield _row([heading.format(f"{best}{', %' if log else ''}") for heading in HEADINGS])
    yield _row(["---"] * len(HEADINGS))
    for policy in [*after_time.sort_values("test_mean").index, *of_fixed.index.difference(after_time.index)]:
        pair = pairs.loc[policy] if policy in pairs.index else None
        yield _row(
            [
                policy,
                f"{rates[policy]:g}",
                used[policy],
                _mean(after_epochs, policy, "valid"),
                _mean(after_epochs, policy, "test"),
                _mean(after_time, policy, "test"),
                "" if pair is None else difference(*pair[cells.moments("test")]),
                "" if pair is None else interval(*pair[cells.moments("test")], pair["pairs"]),
                "" if pair is None else cells.probability(pair["p"]),
                "" if pair is None else pair["verdict"],
                _mean(of_fixed, policy, "test"),
            ]
        )
    yield ""


def lengths_used(frame: pd.DataFrame, names: Mapping[str, str]) -> dict[str, str]:
    """The median K at the evaluations after the first, and where 90 % of them lie, `12 (8-20)`: by policy.

    `names` has the policy of each run.
    """
    rows = frame[(frame["metric"] == "K") & (frame["step"] > 0)]
    found = {}
    for policy, values in rows["value"].groupby(rows[ID].map(names)):
        low, middle, high = values.quantile([SHARES[0], 0.5, SHARES[1]])
        found[str(policy)] = f"{middle:.0f}" + (f" ({low:.0f}-{high:.0f})" if low < high else "")
    return found


def _mean(rows: pd.DataFrame, policy: str, name: str) -> str:
    return (
        "" if policy not in rows.index else cells.mean_sd(*rows.loc[[policy], cells.moments(name)].to_numpy(float)[0])
    )


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
