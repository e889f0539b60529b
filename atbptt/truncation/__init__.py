"""Truncation policies: who decides K, and when. One file a policy; what any policy must offer is in policy.py."""

from atbptt.truncation.adaptive import Adaptive
from atbptt.truncation.fixed import Fixed
from atbptt.truncation.full import Full
from atbptt.truncation.policy import Policy, Probe, Progress
from atbptt.truncation.randomized import Randomized
from atbptt.truncation.variable import Variable
from atbptt.truncation.warmup import Warmup

__all__ = ["Adaptive", "Fixed", "Full", "Policy", "Probe", "Progress", "Randomized", "Variable", "Warmup"]
