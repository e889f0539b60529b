"""Policies in use: one that has changed in a `Windows` is refused by others, where its clock would begin anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from atbptt.errors import require
from atbptt.truncation import AnyPolicy, Policy

MOVED: WeakSet[AnyPolicy] = WeakSet()


class Watch:
    """Watches the policy that a `Windows` was given, if any, until an update has changed it."""

    def __init__(self, given: AnyPolicy | None) -> None:
        """A `ConfigError` if it has changed in other `Windows`."""
        self._given = given
        self._check()

    def _check(self) -> None:
        rule = "has changed in other Windows, where its clock stands: feed them the next streams, or give a new policy"
        require(not _is_moved(self._given), "policy", type(self._given).__name__, rule)

    @contextmanager
    def updating(self, policy: Policy) -> Iterator[None]:
        """Within it the policy is updated: what was given, or what stands for it.

        A `ConfigError` before, if it has changed in other `Windows` since.
        """
        if self._given is None:
            yield
            return
        self._check()
        before = deepcopy(policy.state_dict())
        yield
        if _differ(before, policy.state_dict()):
            with suppress(TypeError):  # it cannot be hashed or referred to weakly
                MOVED.add(self._given)
            self._given = None


def _is_moved(policy: AnyPolicy | None) -> bool:
    try:
        return policy in MOVED
    except TypeError:  # it cannot be hashed
        return False


def _differ(some: Any, others: Any) -> bool:
    """Whether two states of a policy differ; values that cannot be compared do unless they are the same."""
    if isinstance(some, Tensor) and isinstance(others, Tensor):
        return not torch.equal(some, others)
    if isinstance(some, dict) and isinstance(others, dict):
        return some.keys() != others.keys() or any(_differ(value, others[name]) for name, value in some.items())
    if isinstance(some, list | tuple) and isinstance(others, list | tuple):
        return len(some) != len(others) or any(map(_differ, some, others))
    try:
        return some is not others and bool(some != others)
    except (ValueError, RuntimeError):
        return True
