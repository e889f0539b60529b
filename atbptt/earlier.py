"""Options that came later, and by which of their values earlier versions trained.

At these values they are left out of ids, so that finished runs are found, and they are filled in where the stored
options of runs lack them. A config that lacks them gets the present default.
"""

from collections.abc import Mapping
from typing import Any

from atbptt.errors import listed

OPTIONS: Mapping[str, Any] = {"phase": "fixed"}
# The option `lr_decay` was one of these names, and is the config of a class now.
LR_DECAYS = {"none": "atbptt.windows.NoDecay", "inverse_sqrt": "atbptt.windows.InverseSqrtDecay"}
ADAPTIVE, VARIABLE = (
    {f"atbptt.truncation.{name}", f"atbptt.{name}", f"atbptt.truncation.{name.lower()}.{name}"}
    for name in ("Adaptive", "Variable")
)
LATER = {  # by data set or schedule
    **{target: {"warmup": 0.0} for target in LR_DECAYS.values()},
    **{
        f"atbptt.datasets.{module}{name}": later
        for name, later in (
            ("Arrays", {"ignored": None}),
            ("Events", {"resets": False}),
            ("Text", {"unit": "word", "split": None, "resets": False}),
        )
        for module in ("", f"{name.lower()}.")
    },
}


def with_defaults(policy: dict[str, Any]) -> dict[str, Any]:
    """The config of a policy, with the argument that decides how it acts; the others act as before by default."""
    lacking = policy.get("_target_") in ADAPTIVE and "as_published" not in policy
    return {**policy, "as_published": False} if lacking else policy


def with_class(lr_decay: str) -> dict[str, Any]:
    """The config of a schedule that earlier versions knew by this name; a ValueError for another name."""
    if lr_decay not in LR_DECAYS:
        raise ValueError(f"must be one of {listed(LR_DECAYS)}, or the config of a class")
    target = LR_DECAYS[lr_decay]
    return {"name": lr_decay, "_target_": target, **LATER[target]}


def former_name(schedule: Mapping[str, Any]) -> Any:
    """The name by which earlier versions knew a schedule without later arguments; else its class and arguments."""
    return next((name for name, target in LR_DECAYS.items() if schedule == {"_target_": target}), schedule)


def later_arguments(target: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the later arguments of a policy, a data set or a schedule by which earlier versions trained.

    None for `estimator=measured`, which was of exactly K steps: no value does the same now.
    """
    if target in ADAPTIVE and arguments.get("estimator", "bound") == "bound":
        return {"as_published": True}
    return {"K_max": None} if target in VARIABLE else LATER.get(target, {})


def filled_in(options: dict[str, Any]) -> dict[str, Any]:
    """The stored options of a run, without nulls, by their dotted names, with those that its version did not have."""
    if "scheme" not in options:
        return options
    filled = {"probe": "default", **OPTIONS}
    if (former := options.get("lr_decay")) in LR_DECAYS:
        filled["lr_decay._target_"] = LR_DECAYS[former]
    for group in ("truncation.", "dataset.", "lr_decay."):
        known = (filled | options).items()
        arguments = {name.removeprefix(group): value for name, value in known if name.startswith(group)}
        later = later_arguments(str(arguments.get("_target_")), arguments)
        filled |= {group + name: value for name, value in later.items() if value is not None}
    return filled | options
