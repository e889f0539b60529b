"""The pages on policies and metrics: complete, and what they say is so."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from atbptt.config.composing import composer, job_config
from atbptt.config.settings import Settings, validated
from atbptt.errors import ConfigError
from atbptt.runs import schema
from atbptt.training.experiment import run
from atbptt.truncation import Adaptive, Fixed, Full, Policy, Randomized, Variable, Warmup
from atbptt.windows.schemes import SCHEMES, check_scheme
from tests.conftest import TINY_PROBE, TINY_STREAMS

ROOT = Path(__file__).parents[2]
POLICIES, METRICS = ROOT / "docs" / "policies", ROOT / "docs" / "metrics"
CODE = re.compile(r"`([^`]+)`")
PAGE = re.compile(r"\]\((\w+)\.md(?:#[\w-]+)?\)")  # that a link leads to, in the same folder
POLICY: dict[str, Callable[[], Policy]] = {
    "fixed": lambda: Fixed(10),
    "adaptive": lambda: Adaptive(0.9, 10, 2, 40, 1.0),
    "variable": lambda: Variable(10),
    "randomized": lambda: Randomized(10.0),
    "warmup": lambda: Warmup(2, 20, 10.0),
    "full": Full,
    "full, with `window`": lambda: Full(window=50),
}


def pages(folder: Path) -> list[str]:
    """Names of the pages in a folder, but for its index."""
    return sorted(path.stem for path in folder.glob("*.md") if path.stem != "index")


def table(text: str, heading: str) -> Iterator[list[str]]:
    """Rows of the first table whose heading begins so, as cells."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    yield cells(lines[start])
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield cells(line)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


# Policies


def test_each_policy_has_a_page_and_each_page_a_policy() -> None:
    policies = sorted(path.stem for path in (ROOT / "conf" / "truncation").glob("*.yaml"))
    assert pages(POLICIES) == policies
    index = (POLICIES / "index.md").read_text()
    assert all(f"[{policy}]({policy}.md)" in index for policy in policies)


@pytest.mark.parametrize("policy", pages(POLICIES))
def test_a_policys_page_has_every_option_with_its_default(policy: str) -> None:
    options = yaml.safe_load((ROOT / "conf" / "truncation" / f"{policy}.yaml").read_text())
    defaults = {
        f"truncation.{name}": "the run's `seed`" if value == "${seed}" else "null" if value is None else str(value)
        for name, value in options.items()
        if name not in ("name", "_target_")
    }
    _, *rows = table((POLICIES / f"{policy}.md").read_text(), "option")
    assert {CODE.findall(option)[0]: default for option, default, _ in rows} == defaults


def test_the_table_of_schemes_says_what_the_policies_say() -> None:
    heading, *rows = table((POLICIES / "index.md").read_text(), "policy | `original-buffer`")
    schemes = [CODE.findall(cell)[0] for cell in heading[1:]]
    assert sorted(schemes) == sorted(SCHEMES)
    assert [row[0] for row in rows] == list(POLICY)
    documented = {(row[0], scheme): verdict for row in rows for scheme, verdict in zip(schemes, row[1:], strict=True)}
    found = {
        (name, scheme): "no" if refusal(make(), scheme) else "yes"
        for name, make in POLICY.items()
        for scheme in schemes
    }
    assert documented == found


def refusal(policy: Policy, scheme: str) -> str | None:
    try:
        check_scheme(policy, scheme)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("policy", pages(POLICIES))
def test_a_policys_page_quotes_the_errors_of_the_schemes_it_refuses(policy: str) -> None:
    made = [make() for name, make in POLICY.items() if name.partition(",")[0] == policy]
    refused = {refusal(each, scheme) for each in made for scheme in SCHEMES} - {None}
    quoted = set(re.findall(r"^scheme \(=.*$", (POLICIES / f"{policy}.md").read_text(), re.MULTILINE))
    assert quoted <= refused
    assert bool(quoted) == bool(refused)


@pytest.mark.parametrize("policy", pages(POLICIES))
def test_a_policys_page_names_its_code_its_test_and_its_command(policy: str) -> None:
    text = (POLICIES / f"{policy}.md").read_text()
    for path in (f"atbptt/truncation/{policy}.py", f"tests/truncation/test_{policy}.py"):
        assert f"[{path}](../../{path})" in text
        assert (ROOT / path).is_file()
    assert re.search(rf"^python launch\.py.*truncation(={policy}|\.K=)", text, re.MULTILINE)


# Metrics


def named(page: str) -> set[str]:
    """The names in the heading of a metric's page, or where it lists them; with a number in the place of <delta>."""
    paragraphs = (METRICS / f"{page}.md").read_text().split("\n\n")
    names = CODE.findall(next((each for each in paragraphs if each.startswith("Names: ")), paragraphs[0]))
    assert names, page
    return {
        name.replace("K_<delta>", schema.metric_of_delta(delta)) for name in names for delta in schema.LOGGED_DELTAS
    }


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all metrics that runs on symbols, events and real numbers write."""
    folder = tmp_path_factory.mktemp("runs")
    for split in ("train", "valid", "test"):
        (folder / f"event-{split}.txt").write_text("1 2 1 1 2 2 1 2\n" * 40)
        (folder / f"time-{split}.txt").write_text("0 0.1 0.3 0.4 0.4 1 1.5 2\n" * 40)
    runs = (
        ("truncation=adaptive", *TINY_STREAMS),
        ("dataset=linear", *TINY_STREAMS),
        (
            "dataset=events",
            "model=point_process",
            "model.embedding=4",
            "dataset.batch_size=8",
            f"dataset.path={folder}",
        ),
    )
    names = set()
    for overrides in runs:
        directory = run(composed(*TINY_PROBE, "epochs=1", "model.hidden=6", *overrides, f"output_dir={folder}/outputs"))
        names |= set(pq.read_table(directory.path / schema.METRICS)["metric"].to_pylist())
    return names


def composed(*overrides: str) -> Settings:
    with composer(ROOT / "conf") as hydra:
        return validated(job_config(hydra, "config", list(overrides)))


def test_every_metric_that_runs_write_has_a_page_and_every_page_such_a_metric(logged: set[str]) -> None:
    documented = {name: page for page in pages(METRICS) if page != "clocks" for name in named(page)}
    assert sorted(documented) == sorted(logged)


def test_the_page_on_clocks_has_the_columns_that_say_when() -> None:
    of_a_value = {"experiment_id", "metric", "replicate", "value"}
    assert named("clocks") == set(schema.METRICS_SCHEMA.names) - of_a_value


def test_the_table_of_metrics_links_every_page_and_names_what_it_is_of() -> None:
    index = (METRICS / "index.md").read_text()
    rows = [row[0] for row in table(index, "metric")][1:]
    linked = {page for row in rows for page in PAGE.findall(row)}
    assert linked | {"clocks"} == set(pages(METRICS))
    assert "(clocks.md)" in index
    for row in rows:
        (page,) = PAGE.findall(row)
        assert set(CODE.findall(row)) <= named(page)
