import pytest

from analysis.loading import Results
from analysis.tables.comparisons import equal_work_tables, paired_tables, target_tables
from tests.helpers.made_runs import results, run, texts


def policies(**inits: list[list[float]]) -> Results:
    """Runs of each K (`K5`) by init, with the validation of each epoch and a test value that is larger by 1."""
    runs = [(int(K[1:]), init, values) for K, each in inits.items() for init, values in enumerate(each)]
    metrics = [{"valid_ppl": values, "test_ppl": [value + 1 for value in values]} for _, _, values in runs]
    return results(
        *(run(f"{K:02}-{i}", own, init=i, truncation__K=K) for (K, i, _), own in zip(runs, metrics, strict=True))
    )


@pytest.fixture
def two_policies() -> Results:
    """K=5 is worse than K=10 by 0.1 and 0.3."""
    return policies(K5=[[2, 2, 1.5], [2, 2, 1.7]], K10=[[2, 2, 1.4], [2, 2, 1.4]])


def test_differences(two_policies: Results) -> None:
    (table,) = paired_tables(two_policies)
    assert table.title == "dataset copy: difference from fixed K=10 at equal init, mean (sd)"
    assert table.name == "copy_ppl_pairs"
    assert texts(table) == [
        ["policy", "pairs", "valid PPL", "test PPL"],
        ["fixed K=5", "2", "+0.20 (0.14)", "+0.20 (0.14)"],
    ]
    (other,) = paired_tables(two_policies, reference="fixed K=5")
    assert texts(other)[1][:3] == ["fixed K=10", "2", "-0.20 (0.14)"]


def test_time_to_the_target(two_policies: Results) -> None:
    (table,) = target_tables(two_policies)
    assert table.title == "dataset copy: time to a valid PPL of at most 1.7, mean (sd) of the runs that reach it"
    amounts = ["2.00 (0.00)", "3.00 (0.00)", "40.0 (0.0)", "4.00 (0.00)"]
    assert texts(table) == [
        ["policy", "reached", "epoch", "with probes", "updates", "train s"],
        ["fixed K=5", "2 of 2", *amounts],
        ["fixed K=10", "2 of 2", *amounts],
    ]
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


def test_after_equal_work() -> None:
    """An epoch of K=5 takes a second, one of K=10 two; K=5 is at its best before it ends."""
    made = policies(K5=[[3, 3, 1.5 + init, 2, 1] for init in range(4)], K10=[[4, 4, 2.5, 1.75]] * 4)
    frame = made.frame
    frame["train_seconds"] = frame["epoch"] * frame["truncation.K"].map({5: 1.0, 10: 2.0})
    frame["adaptive_epoch"] = frame["epoch"]
    (table,) = equal_work_tables(made)
    assert table.title == "dataset copy: best valid PPL so far after equal work, mean (sd) over init"
    assert texts(table) == [
        ["policy", "epoch 3", "95% interval", "4 s", "95% interval"],
        ["fixed K=10", "1.750 (0.000)", "[1.750, 1.750]", "2.500 (0.000)", "[2.500, 2.500]"],
        ["fixed K=5", "1.875 (0.250)", "[1.625, 2.000]", "1.000 (0.000)", "[1.000, 1.000]"],
    ]
    assert [[cell.best for cell in row][1::2] for row in table.rows] == [[True, False], [False, True]]
    frame["adaptive_epoch"] += frame["truncation.K"].map({5: 1.0, 10: 0.0})
    (table,) = equal_work_tables(made)
    assert [row[3] for row in texts(table)] == ["3 with probes", "1.750 (0.000)", "2.500 (0.707)"]


@pytest.mark.parametrize("inits", [{"K5": [[2, 1]]}, {"K5": [[2, 1]], "K10": [[2, 1]]}], ids=["one policy", "one init"])
def test_nothing_to_compare(inits: dict[str, list[list[float]]]) -> None:
    made = policies(**inits)
    assert (paired_tables(made), target_tables(made), len(equal_work_tables(made))) == ([], [], len(inits) - 1)


def test_without_test_values_the_interval_is_of_the_validation() -> None:
    made = policies(K5=[[1.5]] * 4, K10=[[1.25]] * 4, K20=[[2.0]] * 3)
    made.frame.loc[made.frame["metric"] == "test_ppl", "metric"] = "other"
    assert texts(*paired_tables(made)) == [
        ["policy", "pairs", "valid PPL", "test PPL", "95% of valid"],
        ["fixed K=5", "4", "+0.2500 (0.0000)", "", "[+0.2500, +0.2500]"],
        ["fixed K=20", "3", "+0.7500 (0.0000)", "", ""],  # the interval of so few would be their range
    ]
