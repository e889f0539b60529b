"""How far back must a recurrent network backpropagate? Truncation policies, windows and probes for any training loop.

These names are the library: they import torch and numpy, and nothing that runs experiments.
"""

from typing import TYPE_CHECKING

__version__ = "0.2.0"

if TYPE_CHECKING:
    from atbptt.errors import ConfigError as ConfigError
    from atbptt.models import cross_entropy as cross_entropy
    from atbptt.probes import Measurement as Measurement, ProbeSettings as ProbeSettings, probe as probe
    from atbptt.stored import load as load
    from atbptt.truncation import (
        Adaptive as Adaptive,
        Fixed as Fixed,
        Full as Full,
        Policy as Policy,
        Progress as Progress,
        ProgressPerCost as ProgressPerCost,
        Randomized as Randomized,
        Variable as Variable,
        Warmup as Warmup,
    )
    from atbptt.windows import (
        SCHEMES as SCHEMES,
        CosineDecay as CosineDecay,
        InverseSqrtDecay as InverseSqrtDecay,
        NoDecay as NoDecay,
        PlateauDecay as PlateauDecay,
        StepDecay as StepDecay,
        StreamWindow as StreamWindow,
        Windows as Windows,
        batchify as batchify,
        padded as padded,
    )
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
