import pytest

from analysis import AnalysisError
from analysis.loading import Results
from analysis.statistics import Group, comparable
from analysis.tables.cells import Table
from analysis.tables.comparisons import compared_tables, equal_work_table, paired_table, reference, target_table
from tests.helpers.made_runs import results, run, texts


def policies(**inits: list[list[float]]) -> Results:
    """Runs of each K (`K5`) by init, with the validation of each epoch and a test value that is larger by 1."""
    runs = [(int(K[1:]), init, values) for K, each in inits.items() for init, values in enumerate(each)]
    metrics = [{"valid_loss": values, "test_loss": [value + 1 for value in values]} for _, _, values in runs]
    return results(
        *(run(f"{K:02}-{i}", own, init=i, truncation__K=K) for (K, i, _), own in zip(runs, metrics, strict=True))
    )


def group(made: Results) -> Group:
    (only,) = comparable(made.frame)
    return only


@pytest.fixture
def two_policies() -> Results:
    """K=5 is worse than K=10 by 0.1 and 0.3."""
    return policies(K5=[[2, 2, 1.5], [2, 2, 1.7]], K10=[[2, 2, 1.4], [2, 2, 1.4]])


def test_differences(two_policies: Results) -> None:
    table = paired_table(group(two_policies), "fixed K=10")
    assert table is not None
    assert table.title == "dataset copy: difference from fixed K=10 at equal init, mean (sd)"
    assert table.name == "copy_loss_pairs"
    assert texts(table) == [
        ["policy", "pairs", "valid loss", "test loss", "p", "verdict"],
        ["fixed K=5", "2", "+0.20 (0.14)", "+0.20 (0.14)", "", "too few runs"],
    ]
    values = 1.5, 2, 1, 3, 2.5, 2
    made = policies(**{f"K{K}": [[9, value + by] for value in values] for K, by in ((5, 0), (7, 1), (9, 0))})
    table = paired_table(group(made))
    assert table is not None
    assert texts(table)[:2] == [
        ["policy", "pairs", "valid loss", "test loss", "95% of test", "p", "p of signs", "verdict"],
        ["fixed K=9", "6", *["+0.000 (0.000)"] * 2, "[+0.000, +0.000]", "1.000", "1.000", "no difference to tell"],
    ]
    assert texts(table)[2][5:] == ["< 0.001", "0.031", "worse"]
    assert table.notes == ["p: Student's t test of the test value, corrected for 2 rows (Holm)"]


def test_differences_of_perplexities_are_in_percent() -> None:
    runs = [(K, init, value) for K, by in ((5, 1), (9, 1.1)) for init, value in enumerate((2 * by,) * 3)]
    made = results(*(run(f"{K}-{i}", {"valid_ppl": [9, v]}, init=i, truncation__K=K) for K, i, v in runs))
    table = paired_table(group(made))
    assert table is not None
    assert texts(table) == [
        ["policy", "pairs", "valid PPL, %", "test PPL, %", "95% of valid", "p", "verdict"],
        ["fixed K=9", "3", "+10.00 (0.00)", "", "[+10.00, +10.00]", "< 0.001", "worse"],
    ]


def test_the_reference_is_the_first_of_the_command_unless_another_is_named(two_policies: Results) -> None:
    own = group(two_policies)
    assert reference(own, ["x", "10-1", "05-0"]) == "fixed K=10"
    assert reference(own, ["10-1"], "fixed K=5") == "fixed K=5"
    assert reference(own, []) is None

    def pairs(against: str | None = None) -> list[Table]:
        return [table for table in compared_tables(two_policies, [own], against) if table.name.endswith("pairs")]

    two_policies.order[:] = ["10-0", "05-0"]
    assert pairs()[0].title.startswith("dataset copy: difference from fixed K=10 ")
    assert pairs("fixed K=5")[0].title.startswith("dataset copy: difference from fixed K=5 ")
    two_policies.frame["epochs"] = two_policies.frame["truncation.K"].map({5: 9.0, 10: 2.0})  # K=5 did not finish
    (empty,) = compared_tables(two_policies, comparable(two_policies.frame), "fixed K=5")
    assert empty.notes == ["no finished run of it has the init of one of another policy"]
    assert compared_tables(two_policies, comparable(two_policies.frame)) == []
    with pytest.raises(AnalysisError, match=r"against \(=fixed K=6\) must be one of fixed K=5, fixed K=10"):
        pairs("fixed K=6")


def test_a_policy_without_complete_runs_is_no_reference_and_sets_no_target() -> None:
    runs = [(K, init, [9, 5, value + init]) for K, value in ((5, 3), (10, 2)) for init in (0, 1)]
    lost = [("7", 0, [9, 5]), ("10", 2, [9, 8])]
    made = results(
        *(
            run(f"{K}-{i}", {"valid_loss": own}, init=i, truncation__K=int(K), epochs=2.0)
            for K, i, own in [*runs, *lost]
        )
    )
    own = group(made)
    assert reference(own, ["7-0", "10-0"]) == "fixed K=10"
    assert "at most 4, " in target_table(own).title  # type: ignore[union-attr]


def test_time_to_the_target(two_policies: Results) -> None:
    table = target_table(group(two_policies))
    assert table is not None
    assert table.title == "dataset copy: time to a valid loss of at most 1.7, mean (sd) of the runs that reach it"
    amounts = ["2.00 (0.00)", "3.00 (0.00)", "40.0 (0.0)", "4.00 (0.00)"]
    assert texts(table) == [
        ["policy", "reached", "epoch", "with probes", "updates", "train s"],
        ["fixed K=5", "2 of 2", *amounts],
        ["fixed K=10", "2 of 2", *amounts],
    ]
    for target, reached, notes in (
        (1.5, ["2 of 2", "1 of 2"], []),
        (1.45, ["2 of 2"], ["1 other policy never reaches it"]),
    ):
        table = target_table(group(two_policies), target)
        assert table is not None
        assert [row[1] for row in texts(table)[1:]] == reached
        assert table.notes == notes
    assert target_table(group(two_policies), target=1.0) is None  # no run does
    two_policies.frame["compute_seconds"] = 1.0
    table = target_table(group(two_policies))
    assert table is not None
    assert texts(table)[0][-1] == "processor s"


def test_after_equal_work() -> None:
    """An epoch of K=5 takes a second, one of K=10 two; K=5 is at its best before it ends."""
    made = policies(K5=[[9, 3, 1.5 + init, 2, 1] for init in range(4)], K10=[[9, 4, 2.5, 1.75]] * 4)
    frame = made.frame
    frame["train_seconds"] = frame["epoch"] * frame["truncation.K"].map({5: 1.0, 10: 2.0})
    frame["adaptive_epoch"] = frame["epoch"]
    table = equal_work_table(group(made))
    assert table is not None
    assert table.title == "dataset copy: best valid loss so far after equal work, mean (sd) over init"
    assert texts(table) == [
        ["policy", "epoch 3", "95% interval", "4 s", "95% interval"],
        ["fixed K=10", "1.750 (0.000)", "[1.750, 1.750]", "2.500 (0.000)", "[2.500, 2.500]"],
        ["fixed K=5", "1.875 (0.250)", "[1.477, 2.273]", "1.000 (0.000)", "[1.000, 1.000]"],
    ]
    assert [[cell.bold for cell in row][1::2] for row in table.rows] == [[True, False], [True, True]]
    frame["adaptive_epoch"] += frame["truncation.K"].map({5: 1.0, 10: 0.0})
    table = equal_work_table(group(made))
    assert table is not None
    assert [row[3] for row in texts(table)] == ["epoch 3 with probes", "1.750 (0.000)", "2.500 (0.707)"]


def test_a_clock_that_a_run_lacks_is_none_of_equal_work() -> None:
    made = policies(K5=[[9, 3, 2]] * 3, K10=[[9, 4, 2.5]] * 3)
    made.frame.loc[made.frame["truncation.K"] == 5, ["adaptive_epoch", "train_seconds"]] = float("nan")
    table = equal_work_table(group(made))
    assert table is not None
    assert texts(table)[0] == ["policy", "epoch 2", "95% interval"]


def test_equal_work_is_what_finished_runs_share_and_holds_the_last_value() -> None:
    """A run that failed at epoch 1 neither ends the comparison nor is in it; nothing lies between two evaluations."""
    budget = {"epochs": 3.0}
    made = results(
        run("a", {"valid_loss": [9, 5, 4, 3]}, **budget),
        run("b", {"valid_loss": [9, 6, 5, 1]}, truncation__K=10, **budget),
        run("c", {"valid_loss": [9, 0.5]}, truncation__K=20, **budget),
        run("d", {"valid_loss": [9, 0.5]}, init=1, **budget),
    )
    seconds = made.frame["truncation.K"].map({5: 1.0, 10: 1.3, 20: 1.0}).astype(float)  # of an epoch
    made.frame["train_seconds"] = made.frame["epoch"] * seconds
    table = equal_work_table(group(made))
    assert table is not None
    # After 3 s the last evaluation of b is that of 2.6 s.
    assert texts(table)[1:] == [["fixed K=10", "1.000", "1.000", "5.000"], ["fixed K=5", "3.000", "3.000", "3.000"]]
    assert texts(table)[0] == ["policy", "epoch 3", "epoch 4.5 with probes", "3 s"]


@pytest.mark.parametrize("inits", [{"K5": [[2, 1]]}, {"K5": [[2, 1]], "K10": [[2, 1]]}], ids=["one policy", "one init"])
def test_nothing_to_compare(inits: dict[str, list[list[float]]]) -> None:
    own = group(policies(**inits))
    assert (paired_table(own), target_table(own), equal_work_table(own) is None) == (None, None, len(inits) == 1)
