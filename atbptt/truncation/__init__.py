"""Truncation policies, which decide K: the protocol in policy.py, one file for each policy."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.truncation.adaptive import Adaptive as Adaptive
    from atbptt.truncation.fixed import Fixed as Fixed
    from atbptt.truncation.full import Full as Full
    from atbptt.truncation.policy import (
        BEYOND_ANY_STREAM as BEYOND_ANY_STREAM,
        AnyPolicy as AnyPolicy,
        Policy as Policy,
        Probe as Probe,
        Progress as Progress,
        completed as completed,
        next_due as next_due,
        update as update,
    )
    from atbptt.truncation.progress import ProgressPerCost as ProgressPerCost
    from atbptt.truncation.randomized import Randomized as Randomized
    from atbptt.truncation.variable import Variable as Variable
    from atbptt.truncation.warmup import Warmup as Warmup
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
