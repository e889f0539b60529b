from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.loading import Results
from analysis.tables.cells import Table
from analysis.tables.comparisons import equal_work_tables, paired_tables, target_tables

WriteRun = Callable[..., Path]


@pytest.fixture
def two_policies(outputs: Path, write_run: WriteRun) -> Results:
    """K=5 is worse than K=10 by 0.1 and 0.3."""
    for init, (five, ten) in enumerate([(1.5, 1.4), (1.7, 1.4)]):
        for name, K, value in (("a", 5, five), ("b", 10, ten)):
            metrics = {"valid_ppl": [2.0, value], "test_ppl": [2.0, value + 1]}
            write_run(f"{name}{init}", metrics, init=init, truncation__K=K)
    return Results(outputs)


def texts(table: Table) -> list[list[str]]:
    return [[column.heading for column in table.columns], *([cell.text for cell in row] for row in table.rows)]


def test_differences(two_policies: Results) -> None:
    (table,) = paired_tables(two_policies)
    assert table.title == "demo, dataset copy_fixed: difference from fixed K=10 at equal init, mean (sd)"
    assert table.name == "demo_copy_fixed_ppl_pairs"
    assert texts(table) == [
        ["policy", "pairs", "valid PPL", "test PPL"],
        ["fixed K=5", "2", "+0.20 (0.14)", "+0.20 (0.14)"],
    ]
    (other,) = paired_tables(two_policies, reference="fixed K=5")
    assert texts(other)[1][:3] == ["fixed K=10", "2", "-0.20 (0.14)"]


def test_time_to_the_target(two_policies: Results) -> None:
    (table,) = target_tables(two_policies)
    assert (
        table.title
        == "demo, dataset copy_fixed: time to a valid PPL of at most 1.7, mean (sd) of the runs that reach it"
    )
    # The conftest's runs count half an epoch of probes.
    heads = ["policy", "reached", "epoch", "with probes", "updates", "train s"]
    amounts = ["2.00 (0.00)", "2.50 (0.00)", "40.0 (0.0)", "0.500 (0.000)"]
    assert texts(table) == [heads, ["fixed K=5", "2 of 2", *amounts], ["fixed K=10", "2 of 2", *amounts]]
    for target, reached, notes in (
        (1.5, ["2 of 2", "1 of 2"], []),
        (1.45, ["2 of 2"], ["1 other setting never reaches it"]),
    ):
        (table,) = target_tables(two_policies, target=target)
        assert [row[1] for row in texts(table)[1:]] == reached
        assert table.notes == notes
    assert target_tables(two_policies, target=1.0) == []  # no run does
    two_policies.frame["epoch"] = 0.0
    assert target_tables(two_policies) == []  # without training


def test_after_equal_work(outputs: Path, write_run: WriteRun) -> None:
    """K=5 has four evaluations and K=10 three, a second each and two; K=5 is at its best before it ends."""
    for init in range(4):
        write_run(f"a{init}", {"valid_ppl": [3.0, 1.5 + init, 2.0, 1.0]}, init=init)
        write_run(f"b{init}", {"valid_ppl": [4.0, 2.5, 1.75]}, init=init, truncation__K=10)
    results = Results(outputs)
    frame = results.frame
    frame["train_seconds"] = frame["epoch"] * frame["truncation.K"].map({5: 1.0, 10: 2.0})
    frame["adaptive_epoch"] = frame["epoch"]
    (table,) = equal_work_tables(results)
    assert table.title == "demo, dataset copy_fixed: best valid PPL so far after equal work, mean (sd) over init"
    assert texts(table) == [
        ["policy", "epoch 3", "95% interval", "4 s", "95% interval"],
        ["fixed K=10", "1.750 (0.000)", "[1.750, 1.750]", "2.500 (0.000)", "[2.500, 2.500]"],
        ["fixed K=5", "1.875 (0.250)", "[1.625, 2.000]", "1.000 (0.000)", "[1.000, 1.000]"],
    ]
    assert [[cell.best for cell in row][1::2] for row in table.rows] == [[True, False], [False, True]]
    frame["adaptive_epoch"] += frame["truncation.K"].map({5: 1.0, 10: 0.0})
    (table,) = equal_work_tables(results)
    assert [row[3] for row in texts(table)] == ["3 with probes", "1.750 (0.000)", "2.500 (0.707)"]


@pytest.mark.parametrize("kinds", [{}, {"b": 10}], ids=["one policy", "one init"])
def test_nothing_to_compare(outputs: Path, write_run: WriteRun, kinds: dict[str, int]) -> None:
    for number, name in enumerate(["a", *kinds]):
        write_run(name, {"valid_ppl": [1.0 + number]}, truncation__K=kinds.get(name, 5))
    assert paired_tables(Results(outputs)) == []
    assert target_tables(Results(outputs)) == []
    assert len(equal_work_tables(Results(outputs))) == len(kinds)


def test_without_test_values_the_interval_is_of_the_validation(outputs: Path, write_run: WriteRun) -> None:
    for init in range(4):
        write_run(f"a{init}", {"valid_ppl": [1.5]}, init=init)
        write_run(f"b{init}", {"valid_ppl": [1.25]}, init=init, truncation__K=10)
        if init < 3:  # the interval of so few would be their range
            write_run(f"c{init}", {"valid_ppl": [2.0]}, init=init, truncation__K=20)
    (table,) = paired_tables(Results(outputs))
    assert texts(table)[0][-1] == "95% of valid"
    assert texts(table)[1][1:] == ["4", "+0.2500 (0.0000)", "", "[+0.2500, +0.2500]"]
    assert texts(table)[2][1:] == ["3", "+0.7500 (0.0000)", "", ""]
