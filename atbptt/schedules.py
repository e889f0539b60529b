"""Schedules in epochs, counted in steps."""

from __future__ import annotations

import math


def next_due(step: int, every: float, epoch_steps: int) -> int:
    """The first step after `step` that is due, where every `every` epochs of `epoch_steps` steps one is.

    The n-th is due at step n * every * epoch_steps, rounded up. Products of decimal fractions are a little off
    (3 * 0.2 * 60 is 36.00000000000001), which must not move a step.
    """
    interval = max(every * epoch_steps, 1.0)
    n = max(int(step / interval) - 1, 0)
    while (due := math.ceil(round(n * interval, 6))) <= step:
        n += 1
    return due
