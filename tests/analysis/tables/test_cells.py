from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.tables.cells import Cell, Column, Table, amount, column, interval, mean_sd, measure_name, short, signed

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


def test_interval_has_the_places_of_the_mean() -> None:
    assert interval(1.03, 1.0412, 1.036, 0.004) == "[1.030, 1.041]"
    assert interval(99.5, 101.26, 100.3, 0.9) == "[99.5, 101.3]"
    assert interval(1.00012, 1.00018, 1.00015, 0.00003) == "[1.00012, 1.00018]"
    assert interval(NAN, NAN, 1.0, NAN) == ""


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
    ],
)
def test_signed(values: tuple[float, float, float, float], text: str, ends: str) -> None:
    assert signed(*values) == (text, ends)


def test_amount() -> None:
    assert [amount(25.46, 3.54), amount(2549.6, 354.2), amount(0.05093, NAN), amount(0, 0), amount(NAN, NAN)] == [
        "25.5 (3.5)",
        "2550 (354)",
        "0.0509",
        "0.00 (0.00)",
        "",
    ]


def test_words() -> None:
    assert [short(12.46), short(NAN)] == ["12.5", ""]
    names = [measure_name(name) for name in ("valid_ppl", "test_nll", "test_event_error", "test_time_rmse")]
    assert names == ["PPL", "NLL", "event error", "time RMSE"]


def test_a_column_has_texts_raw_values_and_its_best() -> None:
    rows = pd.DataFrame({"mean": [2.0, 1.0, NAN], "sd": [0.1, NAN, NAN]})
    head, cells = column(rows, "PPL", ["mean", "sd"], mean_sd, best=True)
    assert head == Column("PPL", "right", ("mean", "sd"))
    assert cells == [
        Cell("2.000 (0.100)", (2.0, 0.1)),
        Cell("1.000", (1.0, None), best=True),
        Cell("", (None, None)),
    ]
    assert [cell.value for cell in cells] == [2.0, 1.0, None]
    _, (alone,) = column(rows[:1], "PPL", ["mean"], str, best=True)
    assert not alone.best  # of one


def test_a_long_table_is_shortened() -> None:
    rows = [[Cell(str(n), (n,))] for n in range(5)]
    table = Table("name", "title", [Column("n", "right", ("n",))], rows, ["note"])
    short = table.shortened(3)
    assert [row[0].text for row in short.rows] == ["0", "1", "2"]
    assert short.notes == ["and 2 more rows", "note"]
    assert table.shortened(5) is table
