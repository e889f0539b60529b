"""Which classes are made of the config of a run, which somebody else may have written."""

import inspect
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from atbptt.config import SUPPLIED, errors_of, leaves
from atbptt.errors import AnalysisError, ConfigError, show

WINGS = ("atbptt.models", "atbptt.datasets", "atbptt.truncation", "atbptt.windows")
OPTIMIZERS = "torch.optim"


@dataclass(frozen=True)
class Trust:
    """What may be made besides the classes of atbptt and the optimizers of torch.

    Attributes:
        all: whatever the config names; its code runs.
        modules: what the config names in these modules and packages.
    """

    all: bool = False
    modules: tuple[str, ...] = ()

    def check(self, config: Mapping[str, Any], path: Path) -> None:
        """Raise an AnalysisError for a class that is not trusted, before any of it is imported; `path` is named.

        A ConfigError for one of a trusted module that cannot be imported.
        """
        for name, value in leaves({group: config.get(group) for group in SUPPLIED}):
            known = not name.endswith("_target_") or any(
                _is_of(module, str(value), f"{path}: {name}") for module in self._known
            )
            if self.all or (known and "${" not in str(value)):  # which could make a `_target_` of its own
                continue
            if known:
                raise AnalysisError(f"{path}: {name} (={show(value)}) refers to something else; --trust allows all")
            module = str(value).replace(":", ".").rpartition(".")[0]
            rule = "is no class of atbptt, and to make it would run its code"
            mine = f"if {show(module)} is a module of yours, add --module {show(module)}"
            ways = f"{mine}, or in Python modules=[...]; --trust allows all"
            raise AnalysisError(f"{path}: {name} (={show(value)}) {rule}; {ways}")

    @property
    def _known(self) -> tuple[str, ...]:
        return (*WINGS, OPTIMIZERS, *self.modules)


def _is_of(module: str, target: str, named: str) -> bool:
    """Whether a target is of a module, which is imported only then, and defined there: not `models.os.system`."""
    dotted = target.replace(":", ".")
    if not dotted.startswith(f"{module}."):
        return False
    try:
        with errors_of(named, f"(={show(target)}) cannot be imported"):
            found = pkgutil.resolve_name(target)
    except ConfigError:
        if module in (*WINGS, OPTIMIZERS):
            return False
        raise
    if module == OPTIMIZERS:
        return inspect.isclass(found) and issubclass(found, Optimizer)
    home = str(getattr(found, "__module__", None))
    return (home == module or home.startswith(f"{module}.")) and (module not in WINGS or inspect.isclass(found))
