"""How far back must a recurrent network backpropagate? Truncation policies, windows and probes for any training loop.

What is named here is the library: it imports torch and numpy, and nothing of what runs experiments.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.errors import ConfigError
    from atbptt.iteration import StreamWindow, Windows
    from atbptt.losses import cross_entropy
    from atbptt.probes import Measurement, ProbeSettings, probe
    from atbptt.streams import batchify
    from atbptt.truncation import Adaptive, Fixed, Full, Policy, Progress, Randomized, Variable, Warmup
    from atbptt.windows import SCHEMES

# `analysis` reads the schema of what runs store, and must not wait for torch: only who uses a name pays for it.
_HOMES = {
    "errors": ("ConfigError",),
    "iteration": ("StreamWindow", "Windows"),
    "losses": ("cross_entropy",),
    "probes": ("Measurement", "ProbeSettings", "probe"),
    "streams": ("batchify",),
    "truncation": ("Adaptive", "Fixed", "Full", "Policy", "Progress", "Randomized", "Variable", "Warmup"),
    "windows": ("SCHEMES",),
}

__all__ = [
    "SCHEMES",
    "Adaptive",
    "ConfigError",
    "Fixed",
    "Full",
    "Measurement",
    "Policy",
    "ProbeSettings",
    "Progress",
    "Randomized",
    "StreamWindow",
    "Variable",
    "Warmup",
    "Windows",
    "batchify",
    "cross_entropy",
    "probe",
]


if not TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(f"atbptt.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
