"""The one exception of this package: input that cannot be analysed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class AnalysisError(ValueError):
    """Bad input, with a message of one line that names it; the command line prints it and exits with 1."""


def unknown(name: str, value: str, choices: Sequence[str]) -> AnalysisError:
    """The error for a `value` that is none of the `choices`, with the nearest of them."""
    near = difflib.get_close_matches(value, choices, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return AnalysisError(f"{name} (={value}) must be one of {', '.join(choices)}{hint}")
