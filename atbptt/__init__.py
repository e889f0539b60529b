"""How far back must a recurrent network backpropagate? Truncation policies, windows and probes for any training loop.

What is named here is the library: it imports torch and numpy, and nothing of what runs experiments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.errors import ConfigError as ConfigError
    from atbptt.iteration import StreamWindow as StreamWindow
    from atbptt.iteration import Windows as Windows
    from atbptt.losses import cross_entropy as cross_entropy
    from atbptt.probes import Measurement as Measurement
    from atbptt.probes import ProbeSettings as ProbeSettings
    from atbptt.probes import probe as probe
    from atbptt.streams import batchify as batchify
    from atbptt.truncation import Adaptive as Adaptive
    from atbptt.truncation import Fixed as Fixed
    from atbptt.truncation import Full as Full
    from atbptt.truncation import Policy as Policy
    from atbptt.truncation import Progress as Progress
    from atbptt.truncation import Randomized as Randomized
    from atbptt.truncation import Variable as Variable
    from atbptt.truncation import Warmup as Warmup
    from atbptt.windows import SCHEMES as SCHEMES
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
