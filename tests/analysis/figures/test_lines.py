import math

from matplotlib.colors import to_hex

from analysis.figures.lines import MOST_LINES, choose_lines
from analysis.figures.style import COLORS
from tests.helpers.made_runs import fixed_and_adaptive, run, sweep

METRIC = "valid_ppl"


def test_the_best_of_each_policy_then_the_next_best() -> None:
    runs = [
        run(f"{K}-{lr}", {METRIC: [value]}, truncation__K=K, lr=lr)
        for K, lr, value in [(2, 1.0, 1.9), (2, 3.0, 1.8), (5, 1.0, 1.1), (5, 3.0, 1.2), (5, 9.0, 1.3)]
    ]
    lines = choose_lines(sweep(*runs), METRIC, most=3)
    assert [line.label for line in lines.chosen] == ["fixed K=2, lr=3", "fixed K=5, lr=1", "fixed K=5, lr=3"]
    assert lines.remark() == ("3 of 5 settings: the best of each policy, then the next best by mean best validation.")
    assert lines.runs == {"2-3.0", "5-1.0", "5-3.0"}


def test_the_best_adaptive_setting_is_among_them_however_many_fixed_ones_are_better() -> None:
    fixed = [run(f"{K}", {METRIC: [1 + K / 100]}, truncation__K=K) for K in range(1, 15)]
    adaptive = run("z", {METRIC: [5.0]}, truncation="adaptive", truncation__K=None, truncation__delta=0.9)
    lines = choose_lines(sweep(*fixed, adaptive), METRIC).chosen
    assert [line.label for line in lines] == ["adaptive delta=0.9", *(f"fixed K={K}" for K in range(1, MOST_LINES))]
    assert [line.delta for line in lines[:2]] == [0.9, None]
    assert len({(to_hex(line.color), line.dash) for line in lines}) == MOST_LINES  # every one looks different
    assert len({to_hex(color) for color in COLORS}) == len(COLORS)


def test_settings_that_have_logged_a_metric() -> None:
    frame = sweep(*(run(f"{K}", {METRIC: [1.5]} | ({"K": [1]} if K == 8 else {}), truncation__K=K) for K in (2, 5, 8)))
    lines = choose_lines(frame, METRIC)
    assert [line.label for line in lines.having(frame, ["K", "nothing"]).chosen] == ["fixed K=8"]
    assert lines.having(frame, [METRIC]) == lines


def test_diverged_settings_come_last() -> None:
    frame = sweep(run("a", {METRIC: [math.nan]}), *(run(f"{K}", {METRIC: [K]}, truncation__K=K) for K in (2, 3)))
    assert [line.label for line in choose_lines(frame, METRIC, most=2).chosen] == ["fixed K=2", "fixed K=3"]
    assert len(choose_lines(frame, METRIC).chosen) == 3


def test_a_colour_per_policy_and_a_dash_per_rest_if_both_vary() -> None:
    runs = [run(f"{K}{lr}", {METRIC: [1.5]}, lr=lr, truncation__K=K) for K in (2, 8) for lr in (1.0, 10.0)]
    lines = {line.label: line for line in choose_lines(sweep(*runs), METRIC).chosen}
    assert lines["fixed K=2, lr=1"].color == lines["fixed K=2, lr=10"].color != lines["fixed K=8, lr=1"].color
    assert lines["fixed K=2, lr=1"].dash == lines["fixed K=8, lr=1"].dash != lines["fixed K=2, lr=10"].dash


def test_remark_tells_of_bands_and_runs() -> None:
    assert choose_lines(sweep(run("a", {METRIC: [1]})), METRIC).remark() == ""
    few = "Lines are means over init, bands one standard deviation, thin lines the runs."
    assert choose_lines(fixed_and_adaptive(), METRIC).remark() == few
    many = sweep(*(run(f"{init}", {METRIC: [1]}, init=init) for init in range(13)))
    assert choose_lines(many, METRIC).remark() == "Lines are means over init, bands one standard deviation."
