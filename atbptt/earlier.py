"""Options that came later, at the values by which earlier versions trained.

They are left out of ids, so that finished runs are found, and filled in where the stored options of runs lack them.
"""

from collections.abc import Mapping
from typing import Any

OPTIONS: Mapping[str, Any] = {"phase": "fixed"}
# Of an atbptt class in the group `truncation`, by its `_target_`.
ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    "atbptt.truncation.Adaptive": {"as_published": True},
    "atbptt.truncation.Variable": {"K_max": None},
}


def filled_in(options: dict[str, Any]) -> dict[str, Any]:
    """The stored options of a run, without nulls, by their dotted names, with those that its version did not have."""
    of_policy = ARGUMENTS.get(str(options.get("truncation._target_")), {})
    later = {**OPTIONS, **{f"truncation.{name}": value for name, value in of_policy.items() if value is not None}}
    return {**later, **options} if "scheme" in options else options
