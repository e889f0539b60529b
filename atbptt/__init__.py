"""How far back must a recurrent network backpropagate? Truncation policies, windows and probes for any training loop.

What is named here is the library: it imports torch and numpy, and nothing of what runs experiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.errors import ConfigError as ConfigError
    from atbptt.models.losses import cross_entropy as cross_entropy
    from atbptt.probes.measurement import Measurement as Measurement, probe as probe
    from atbptt.probes.settings import ProbeSettings as ProbeSettings
    from atbptt.truncation import (
        Adaptive as Adaptive,
        Fixed as Fixed,
        Full as Full,
        Policy as Policy,
        Progress as Progress,
        Randomized as Randomized,
        Variable as Variable,
        Warmup as Warmup,
    )
    from atbptt.windows.loop import StreamWindow as StreamWindow, Windows as Windows
    from atbptt.windows.schemes import SCHEMES as SCHEMES
    from atbptt.windows.streams import batchify as batchify
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
