from __future__ import annotations

import re

import pytest

from atbptt.errors import ConfigError, described, did_you_mean, require, require_choice, show


def test_a_broken_rule_is_reported_with_name_value_and_rule() -> None:
    with pytest.raises(ConfigError, match=r"^tau \(=90\) must be smaller than 80$") as caught:
        require(False, "tau", 90, "must be smaller than 80")
    assert (caught.value.name, caught.value.rule) == ("tau", "(=90) must be smaller than 80")


def test_a_rule_that_holds_says_nothing() -> None:
    assert require(True, "tau", 70, "must be smaller than 80") is None  # type: ignore[func-returns-value]
    assert require_choice("average", "mean", ["mean", "geometric"]) is None  # type: ignore[func-returns-value]


def test_a_config_error_is_a_value_error() -> None:
    assert isinstance(ConfigError("lr", "is missing"), ValueError)


def test_an_error_within_a_group_carries_the_full_name() -> None:
    error = ConfigError("delta", "(=-1) must be greater than 0").within("truncation")
    assert str(error) == "truncation.delta (=-1) must be greater than 0"
    assert error.name == "truncation.delta"


def test_a_bad_choice_is_reported_with_all_choices_in_their_order() -> None:
    message = "cell (=conv) must be one of lstm, gru, rnn"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        require_choice("cell", "conv", ["lstm", "gru", "rnn"])


def test_a_misspelt_choice_is_reported_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"must be one of mean, geometric; did you mean geometric\?$"):
        require_choice("average", "geometrical", ["mean", "geometric"])


@pytest.mark.parametrize(("value", "shown"), [(None, "null"), (3, "3"), (True, "true"), (False, "false")])
def test_a_choice_of_another_type_is_refused_as_it_is_typed(value: object, shown: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"cell (={shown}) must be one of lstm, gru")):
        require_choice("cell", value, ["lstm", "gru"])


@pytest.mark.parametrize(
    ("name", "hint"), [("windw", "; did you mean window?"), ("tua", "; did you mean tau?"), ("xyz", "")]
)
def test_the_nearest_name_is_proposed_only_where_one_is_near(name: str, hint: str) -> None:
    assert did_you_mean(name, ["window", "tau", "burn_in"]) == hint


def test_a_value_is_shown_as_typed() -> None:
    assert [show("sqrt"), show(1.5), show([1, 2])] == ["sqrt", "1.5", "[1, 2]"]


def test_an_error_is_described_in_one_line() -> None:
    assert described(ValueError("too\n  large")) == "ValueError: too large"
