"""Policies in use: one that has changed in a `Windows` is refused by others, where its clock would begin anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any
from weakref import WeakSet

from atbptt.errors import require
from atbptt.truncation import AnyPolicy, Policy

MOVED: WeakSet[AnyPolicy] = WeakSet()


class Watch:
    """Watches the policy that a `Windows` was given, if any, until an update has changed it."""

    def __init__(self, given: AnyPolicy | None) -> None:
        """A `ConfigError` if it has changed in other `Windows`."""
        rule = "has changed in other Windows, where its clock stands: feed them the next streams, or give a new policy"
        require(not _is_moved(given), "policy", type(given).__name__, rule)
        self._given = given

    @contextmanager
    def updating(self, policy: Policy) -> Iterator[None]:
        """Within it the policy is updated: what was given, or what stands for it."""
        if self._given is None:
            yield
            return
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


def _differ(some: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether two states of a policy differ; values that cannot be compared, as arrays, do unless they are the same."""
    if some.keys() != others.keys():
        return True
    try:
        return any(value is not others[name] and bool(value != others[name]) for name, value in some.items())
    except (ValueError, RuntimeError):
        return True
