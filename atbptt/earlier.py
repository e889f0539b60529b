"""Options that came later, and by which of their values earlier versions trained.

At these values they are left out of ids, so that finished runs are found, and they are filled in where the stored
options of runs lack them. A config that lacks them gets the present default.
"""

from collections.abc import Mapping
from typing import Any

OPTIONS: Mapping[str, Any] = {"phase": "fixed"}
ADAPTIVE, VARIABLE = (
    {f"atbptt.truncation.{name}", f"atbptt.{name}", f"atbptt.truncation.{name.lower()}.{name}"}
    for name in ("Adaptive", "Variable")
)
LATER_IN_DATA = {  # by data set
    f"atbptt.datasets.{module}{name}": later
    for name, later in (
        ("Arrays", {"ignored": None}),
        ("Events", {"resets": False}),
        ("Text", {"unit": "word", "split": None, "resets": False}),
    )
    for module in ("", f"{name.lower()}.")
}


def with_defaults(policy: dict[str, Any]) -> dict[str, Any]:
    """The config of a policy, with the argument that decides how it acts; the others act as before by default."""
    lacking = policy.get("_target_") in ADAPTIVE and "as_published" not in policy
    return {**policy, "as_published": False} if lacking else policy


def later_arguments(target: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the later arguments of a policy or a data set by which earlier versions trained.

    None for `estimator=measured`, which was of exactly K steps: no value does the same now.
    """
    if target in ADAPTIVE and arguments.get("estimator", "bound") == "bound":
        return {"as_published": True}
    return {"K_max": None} if target in VARIABLE else LATER_IN_DATA.get(target, {})


def filled_in(options: dict[str, Any]) -> dict[str, Any]:
    """The stored options of a run, without nulls, by their dotted names, with those that its version did not have."""
    if "scheme" not in options:
        return options
    filled = {"probe": "default", **OPTIONS}
    for group in ("truncation.", "dataset."):
        arguments = {name.removeprefix(group): value for name, value in options.items() if name.startswith(group)}
        later = later_arguments(str(arguments.get("_target_")), arguments)
        filled |= {group + name: value for name, value in later.items() if value is not None}
    return filled | options
