"""Which classes are made of the config of a run, which somebody else may have written."""

import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from atbptt.errors import AnalysisError, show

WINGS = ("atbptt.models", "atbptt.datasets", "atbptt.truncation")
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
        """Raise an AnalysisError for a class that is not trusted, before any of it is imported; `path` is named."""
        for name, target in _targets(config):
            if self.all or any(_is_of(module, target) for module in (*WINGS, OPTIMIZERS, *self.modules)):
                continue
            module = target.replace(":", ".").rpartition(".")[0]
            rule = "is no class of atbptt, and to make it would run its code"
            ways = f"if {show(module)} is a module of yours, add --module {show(module)}; --trust allows all"
            raise AnalysisError(f"{path}: {name} (={show(target)}) {rule}; {ways}")


def _targets(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The names of all `_target_` in a config, and what they are."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in pairs:
        inner = f"{name}.{key}".lstrip(".")
        if key == "_target_":
            yield inner, str(part)
        else:
            yield from _targets(part, inner)


def _is_of(module: str, target: str) -> bool:
    """Whether a target is of a module, which is imported only then, and defined there: not `models.os.system`."""
    dotted = target.replace(":", ".")
    if not dotted.startswith(f"{module}."):
        return False
    try:
        found = pkgutil.resolve_name(target)
    except Exception:  # importing a user's module may raise anything
        return False
    if module == OPTIMIZERS:
        return inspect.isclass(found) and issubclass(found, Optimizer)
    home = str(getattr(found, "__module__", None))
    return (home == module or home.startswith(f"{module}.")) and (module not in WINGS or inspect.isclass(found))
