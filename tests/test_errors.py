import os
import re

import pytest

from atbptt.errors import (
    AnalysisError,
    ConfigError,
    DataWarning,
    described,
    require,
    require_choice,
    show,
    show_warning,
)
from atbptt.runs import BusyError, CheckpointError
from atbptt.system import StorageError


def test_a_broken_rule_is_reported_with_name_value_and_rule() -> None:
    with pytest.raises(ConfigError, match=r"^tau \(=90\) must be smaller than 80$") as caught:
        require(False, "tau", 90, "must be smaller than 80")
    assert (caught.value.name, caught.value.rule) == ("tau", "(=90) must be smaller than 80")
    error = caught.value.within("probe")
    assert (str(error), error.name) == ("probe.tau (=90) must be smaller than 80", "probe.tau")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("conv", "cell (=conv) must be one of lstm, gru"),
        ("lst", "cell (=lst) must be one of lstm, gru; did you mean lstm?"),
        ("LSTM", "cell (=LSTM) must be one of lstm, gru; did you mean lstm?"),
        (None, "cell (=null) must be one of lstm, gru"),
        (False, "cell (=false) must be one of lstm, gru"),
    ],
)
def test_a_bad_choice_is_reported_as_typed_with_all_choices_and_the_nearest(value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        require_choice("cell", value, ["lstm", "gru"])
    require_choice("cell", "gru", ["lstm", "gru"])


def test_a_long_word_is_shortened_and_a_name_is_one_line() -> None:
    error = ConfigError("a\nb", f"(={'x' * 1000}) is no number\nc is missing")
    shown = f"(={'x' * 148}... (1,003 characters)"
    assert str(error) == f"a\\nb {shown} is no number\nc is missing"
    assert str(ConfigError("path", "/".join(["folder"] * 30))) == "path " + "/".join(["folder"] * 30)


def test_values_are_shown_as_typed_and_errors_in_one_line() -> None:
    assert [show("sqrt"), show(1.5), show([1, 2]), show(True)] == ["sqrt", "1.5", "[1, 2]", "true"]
    assert described(ValueError("too\n  large")) == "ValueError: too large"


def test_a_warning_on_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", full)
        show_warning("odd", DataWarning, "mine.py", 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # else it is told again when it is closed


@pytest.mark.parametrize("kind", [AnalysisError, BusyError, CheckpointError, DataWarning, StorageError])
def test_python_shows_an_error_that_nobody_catches_with_escapes(kind: type[Exception]) -> None:
    assert str(kind("\x1b[2J\ud800\na")) == "\\x1b[2J\\ud800\na"


def test_names_and_rules_have_escapes() -> None:
    assert str(ConfigError("\x1b", "is \x9b").within("\x07")) == r"\x07.\x1b is \x9b"
