"""The pages on policies and metrics are complete and agree with the code."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from atbptt.config import composer, job_config
from atbptt.config.settings import validated
from atbptt.errors import ConfigError
from atbptt.runs import schema
from atbptt.training.experiment import run
from atbptt.truncation import Adaptive, Fixed, Full, Policy, ProgressPerCost, Randomized, Variable, Warmup
from atbptt.windows.schemes import SCHEMES, check_scheme
from tests.conftest import TINY_PROBE, TINY_STREAMS

ROOT = Path(__file__).parents[2]
POLICIES, METRICS = ROOT / "docs" / "policies", ROOT / "docs" / "metrics"
CODE = re.compile(r"`([^`]+)`")
PAGE = re.compile(r"\]\((\w+)\.md(?:#[\w-]+)?\)")  # the page of a link, in the same folder
POLICY: dict[str, Callable[[], Policy]] = {
    "fixed": lambda: Fixed(10),
    "adaptive": lambda: Adaptive(0.9, 10, 2, 40, 1.0),
    "progress": ProgressPerCost,
    "variable": lambda: Variable(10),
    "randomized": lambda: Randomized(10.0),
    "warmup": lambda: Warmup(2, 20, 10.0),
    "full": Full,
    "full, with `window`": lambda: Full(window=50),
}


def pages(folder: Path) -> list[str]:
    """Names of the pages in a folder, without its index."""
    return sorted(path.stem for path in folder.glob("*.md") if path.stem != "index")


def table(text: str, heading: str) -> list[list[str]]:
    """The heading and the rows of the first table with this heading, as cells."""
    lines = text[text.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]]


def test_each_policy_has_a_page_and_each_page_a_policy() -> None:
    policies = sorted(path.stem for path in (ROOT / "conf" / "truncation").glob("*.yaml"))
    assert pages(POLICIES) == policies
    index = (POLICIES / "index.md").read_text()
    assert all(f"[{policy}]({policy}.md)" in index for policy in policies)


@pytest.mark.parametrize("policy", pages(POLICIES))
def test_a_policys_page_has_every_option_with_its_default(policy: str) -> None:
    options = yaml.safe_load((ROOT / "conf" / "truncation" / f"{policy}.yaml").read_text())
    defaults = {
        f"truncation.{name}": "the run's `seed`" if value == "${seed}" else yaml.safe_dump(value).split("\n")[0]
        for name, value in options.items()
        if name not in ("name", "_target_")
    }
    _, *rows = table((POLICIES / f"{policy}.md").read_text(), "option")
    assert {CODE.findall(option)[0]: default for option, default, _ in rows} == defaults


def test_the_table_of_schemes_agrees_with_the_policies() -> None:
    heading, *rows = table((POLICIES / "index.md").read_text(), "policy | `original-buffer`")
    schemes = [CODE.findall(cell)[0] for cell in heading[1:]]
    assert sorted(schemes) == sorted(SCHEMES)
    assert [row[0] for row in rows] == list(POLICY)
    for name, *verdicts in rows:
        assert verdicts == ["no" if refusal(POLICY[name](), scheme) else "yes" for scheme in schemes], name


def refusal(policy: Policy, scheme: str) -> str | None:
    try:
        check_scheme(policy, scheme)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("policy", pages(POLICIES))
def test_a_policys_page_quotes_the_errors_of_rejected_schemes(policy: str) -> None:
    made = [make() for name, make in POLICY.items() if name.partition(",")[0] == policy]
    refused = {refusal(each, scheme) for each in made for scheme in SCHEMES} - {None}
    quoted = set(re.findall(r"^scheme \(=.*$", (POLICIES / f"{policy}.md").read_text(), re.MULTILINE))
    assert quoted <= refused
    assert bool(quoted) == bool(refused)


def named(page: str) -> set[str]:
    """The metrics of a page, from its heading or its list of names; <delta> is replaced by numbers."""
    paragraphs = (METRICS / f"{page}.md").read_text().split("\n\n")
    names = CODE.findall(next((each for each in paragraphs if each.startswith("Names: ")), paragraphs[0]))
    deltas = schema.LOGGED_DELTAS
    return {name.replace("K_<delta>", schema.metric_of_delta(delta)) for name in names for delta in deltas}


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all metrics that runs on symbols and on events write."""
    folder = tmp_path_factory.mktemp("runs")
    for split in ("train", "valid", "test"):
        (folder / f"event-{split}.txt").write_text("1 2 1 1 2 2 1 2\n" * 40)
        (folder / f"time-{split}.txt").write_text("0 0.1 0.3 0.4 0.4 1 1.5 2\n" * 40)
    events = ("dataset=events", "model=point_process", "model.embedding=4", "dataset.batch_size=8")
    names = {"peak_gpu_memory_mb"}  # on a GPU
    for overrides in (TINY_STREAMS, (*events, f"dataset.path={folder}")):
        options = [*TINY_PROBE, "epochs=1", "model.hidden=6", *overrides, f"output_dir={folder}/outputs"]
        with composer(ROOT / "conf") as hydra:
            directory = run(validated(job_config(hydra, "config", options)))
        names |= set(pq.read_table(directory.path / schema.METRICS)["metric"].to_pylist())
    return names


def test_every_logged_metric_has_a_page_and_every_page_a_logged_metric(logged: set[str]) -> None:
    documented = {name: page for page in pages(METRICS) if page != "clocks" for name in named(page)}
    assert sorted(documented) == sorted(logged)


def test_the_table_of_metrics_links_every_page() -> None:
    index = (METRICS / "index.md").read_text()
    rows = [row[0] for row in table(index, "metric")][1:]
    linked = {page for row in rows for page in PAGE.findall(row)}
    assert linked | {"clocks"} == set(pages(METRICS))
    assert "(clocks.md)" in index
    for row in rows:
        (page,) = PAGE.findall(row)
        assert set(CODE.findall(row)) <= named(page)
    assert named("clocks") == set(schema.METRICS_SCHEMA.names) - {"experiment_id", "metric", "replicate", "value"}
