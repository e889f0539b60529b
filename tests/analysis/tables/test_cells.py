import math

import pandas as pd
import pytest

from analysis.tables import cells
from analysis.tables.cells import Cell, Column, Table, difference, difference_interval, interval, mean_sd

NAN = math.nan


@pytest.mark.parametrize(
    ("mean", "sd", "text"),
    [
        (1.0361, 0.0042, "1.036 (0.004)"),
        (124.04, 1.26, "124.0 (1.3)"),
        (1.000134, 0.00002, "1.00013 (0.00002)"),
        (1.0, 1e-9, "1.000000 (0.000000)"),
        (-4.7451, NAN, "-4.745"),
        (0.003962, 0.00001, "0.003962 (0.000010)"),
        (3.2e8, 1e8, "3.200e+08 (1.000e+08)"),
        (0.0, 0.0, "0.000 (0.000)"),
        (NAN, NAN, ""),
        (math.inf, NAN, "inf"),
    ],
)
def test_mean_sd(mean: float, sd: float, text: str) -> None:
    assert mean_sd(mean, sd) == text


@pytest.mark.parametrize(
    ("values", "text", "ends"),
    [
        ((0.0027, 0.0041, -0.0003, 0.0056), "+0.0027 (0.0041)", "[-0.0003, +0.0056]"),
        ((-1.26612, 0.1, -1.3, -1.2), "-1.27 (0.10)", "[-1.30, -1.20]"),
        ((1.26612, 0.0023, NAN, NAN), "+1.266 (0.002)", ""),
        ((25.4, 310.0, -300.0, 350.0), "+25 (310)", "[-300, +350]"),
        ((0.0, 0.0, 0.0, 0.0), "+0.000 (0.000)", "[+0.000, +0.000]"),
        ((0.5, NAN, NAN, NAN), "+0.5000", ""),
        ((math.inf, NAN, 1.0, math.inf), "+inf", "[+1.000, +inf]"),
        ((NAN, NAN, NAN, NAN), "", ""),
        ((1e-9, 1e-10, NAN, NAN), "+1.0e-09 (1.0e-10)", ""),
    ],
)
def test_difference(values: tuple[float, float, float, float], text: str, ends: str) -> None:
    assert difference(*values) == text
    assert difference_interval(*values, 3) == ends
    assert difference_interval(*values, 2) == ""


def test_interval_has_the_places_of_the_mean() -> None:
    assert interval(1.036, 0.004, 1.03, 1.0412, 4) == "[1.030, 1.041]"
    assert interval(100.3, 0.9, 99.5, 101.26, 4) == "[99.5, 101.3]"
    assert interval(1.0, NAN, NAN, NAN, 4) == interval(1.036, 0.004, 1.03, 1.0412, 2) == ""
    rows = pd.DataFrame({"runs": [2, 3]})
    assert [len(cells.interval_column(rows[:count], "x", "runs", interval)) for count in (1, 2)] == [0, 1]


def test_numbers_are_on_the_right() -> None:
    columns = cells.setting_columns(pd.DataFrame({"model": ["gru"], "lr": [1.0]}), ["model", "lr"])
    assert [column.align for column in columns] == ["left", "right"]


def test_other_numbers_and_words() -> None:
    pairs = ((25.46, 3.54), (2549.6, 354.2), (0.05093, NAN), (0, 0), (NAN, NAN))
    assert [cells.amount(*pair) for pair in pairs] == ["25.5 (3.5)", "2550 (354)", "0.0509", "0.00 (0.00)", ""]
    assert [cells.number(12.46), cells.number(12.46, 0), cells.number(NAN)] == ["12.5", "12", ""]
    metrics = ("valid_ppl", "test_nll", "valid_loss", "test_event_error", "test_time_rmse")
    assert [cells.measure_name(name) for name in metrics] == ["PPL", "NLL", "loss", "event error", "time RMSE"]


def test_differences_of_logarithms_in_percent() -> None:
    values = math.log(1.05), 0.01, math.log(1.02), math.log(1.08)
    assert cells.in_percent(difference)(*values) == "+5.0 (1.1)"
    tenfold = math.log(10), 0.1, math.log(8), 1e3  # beyond the largest float
    assert cells.in_percent(difference)(*tenfold) == "+900 (100)"
    assert cells.in_percent(difference_interval)(*values, 5) == "[+2.0, +8.0]"
    assert [cells.probability(p) for p in (0.0421, 1e-4, 1.0, NAN)] == ["0.042", "< 0.001", "1.000", ""]


def test_what_cannot_be_told_from_the_best_under_equal_conditions_is_bold() -> None:
    values = {
        ("a", 0): [1.0, 2, 3],
        ("b", 0): [1.1, 2, 2.9],
        ("c", 0): [7.0, 8, 9.1],
        ("d", 1): [5.0, 5, 6],
        ("e", 1): [1.0],
    }
    runs = pd.DataFrame(
        [(policy, seed, init, value) for (policy, seed), each in values.items() for init, value in enumerate(each)],
        columns=["policy", "seed", "init", "valid"],
    ).assign(metric="valid_loss")
    rows = runs[["policy", "seed"]].drop_duplicates(ignore_index=True)
    rows = cells.with_bold(rows, runs, ["policy", "seed"], ["seed"], ["valid"])
    # Of seed 1 the best has one run, from which nothing can be told.
    assert rows["valid_bold"].tolist() == [True, True, False, False, False]
    columns = [Column("loss", ["policy"], str, bold="valid_bold"), Column("seed", ["seed"])]
    assert Table("n", "t", columns, rows).rows[1:3] == [
        (Cell("b", bold=True), Cell("0", bold=False)),
        (Cell("c", bold=False), Cell("0", bold=False)),
    ]
    alone = cells.with_bold(rows[:1], runs[runs["policy"] == "a"], ["policy", "seed"], ["seed"], ["valid"])
    assert not alone["valid_bold"].any()
    unknown = cells.with_bold(rows, runs.assign(init=None), ["policy", "seed"], ["seed"], ["valid"])
    assert not unknown["valid_bold"].any()
