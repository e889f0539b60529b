"""Messages for bad input: the name, the value, the rule and the choices."""

import contextlib
import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Self

# What a terminal obeys, what shows text out of its order, and halves of characters, which no stream takes.
UNPRINTABLE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
SHOWN = 150  # characters of a value in a message
LONG_WORD = re.compile(r"\S{300,}")  # in a message: part of a value
DESCRIBED = 1000  # characters of an error


class ConfigError(ValueError):
    """A setting that breaks a rule: its name (`tau`), and the rest (`(=90) must be smaller than ...`).

    Long words are shortened. A new line in a name is shown as an escape, and one in the rule begins another rule.
    """

    def __init__(self, name: str, rule: str) -> None:
        name, rule = (LONG_WORD.sub(lambda word: shortened(word[0], SHOWN), printable(text)) for text in (name, rule))
        name = in_one_line(name)
        super().__init__(f"{name} {rule}")
        self.name = name
        self.rule = rule

    def within(self, group: str) -> Self:
        """The same error, with the setting's full name (`truncation.delta`)."""
        return type(self)(f"{group}.{self.name}", self.rule)


class ShownError(Exception):
    """Its message has escapes for control characters (`printable`), so that Python too can show it."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class AnalysisError(ShownError, ValueError):
    """Bad input, named in a message of one line; the command line prints it and exits with 1."""


class DataWarning(ShownError, UserWarning):  # noqa: N818  (it is a warning)
    """Something unexpected in the data that does not stop a run."""


def require(condition: bool, name: str, value: Any, rule: str) -> None:
    """Raise `ConfigError("name (=value) rule")` unless `condition` holds."""
    if not condition:
        raise ConfigError(name, f"(={show(value)}) {rule}")


def require_whole(name: str, value: Any, least: int) -> None:
    """Raise a `ConfigError` unless `value` is a whole number of at least `least` that fits in 64 bits."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= least, name, value, f"must be {'' if whole else 'a whole number, '}at least {least}")
    require_64_bits(name, value)


def require_64_bits(name: str, value: Any) -> None:
    """Raise a `ConfigError` for a whole number that no table can hold, nor torch, and perhaps no float."""
    require(not isinstance(value, int) or -(2**63) <= value < 2**63, name, value, "must fit in 64 bits")


def require_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a `ConfigError` that lists the choices unless `value` is one of them."""
    choices = list(choices)
    if value not in choices:
        rule = f"must be one of {listed(choices)}{did_you_mean(value, choices)}"
        raise ConfigError(name, f"(={show(value)}) {rule}")


def did_you_mean(name: Any, choices: Iterable[str]) -> str:
    """`; did you mean x?` with the nearest of `choices`, or an empty text if none is near."""
    close = nearest(str(name), choices, 0.5)
    return f"; did you mean {close}?" if close else ""


def nearest(name: str, choices: Iterable[str], likeness: float) -> str:
    """The nearest of `choices`, in upper or lower case, or an empty text if none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name[:SHOWN].lower(), by_lower, n=1, cutoff=likeness)
    return by_lower[close[0]] if close else ""


def unknown(name: str, value: str, choices: Sequence[str]) -> AnalysisError:
    """The error for a `value` that is not one of the `choices`, with the nearest of them."""
    return AnalysisError(f"{name} (={show(value)}) must be one of {listed(choices)}{did_you_mean(value, choices)}")


def listed(names: Iterable[str]) -> str:
    """The names, separated by commas."""
    return ", ".join(names)


def needs_extra(extra: str, error: ModuleNotFoundError) -> str:
    """What is missing and how to install it, for a message; from a clone, since `atbptt` is on no package index."""
    return f"needs the packages of {extra}: pip install '.[{extra}]' in the clone ({error.name} is missing)"


def described(error: BaseException) -> str:
    """The error's class and message in one line."""
    try:
        message = str(error)
    except Exception:  # of a user's own class
        message = "its message cannot be shown"
    return shortened(" ".join(f"{type(error).__name__}: {message}".split()), DESCRIBED)


def show(value: Any) -> str:
    """The value as a person would type it, in one line and not too long: null, true, 0.5, text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # of a user's own class, of a list in itself, of a number with too many digits
        text = f"a {type(value).__name__} that cannot be shown"
    return shortened(printable(in_one_line(text)), SHOWN)


def in_one_line(text: str) -> str:
    """The text with escapes for its new lines."""
    return text.replace("\n", "\\n")


def line_of(text: str, length: int | None = None) -> str:
    """The text in one line, with escapes for control characters; cut to a length first, if one is given."""
    return printable(in_one_line(text if length is None else shortened(text, length)))


def shortened(text: str, length: int) -> str:
    """The text, cut to a length, with the number of characters that it had."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


def printable(text: str) -> str:
    r"""The text with escapes, as \x1b, for what a terminal would obey: all control characters but tab and new line."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Print a `DataWarning` in one line, and any other warning with its place in the code."""
    with_place = warnings.formatwarning(message, category, filename, lineno).rstrip()
    text = f"warning: {message}" if issubclass(category, DataWarning) else with_place
    complain(text)


def complain(text: str) -> None:
    """Print a line on stderr, with control characters as escapes; on a full disk nothing, which is no error."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr)
