from __future__ import annotations

import pytest

from atbptt.errors import ConfigError
from atbptt.truncation import Fixed, Progress


def test_fixed_never_changes_nor_probes() -> None:
    policy = Fixed(K=7)
    policy.update(Progress(step=300, epoch_steps=100), lambda **_: pytest.fail("probed"))
    assert policy.K == 7


def test_fixed_refuses() -> None:
    with pytest.raises(ConfigError, match=r"K \(=0\) must be at least 1"):
        Fixed(K=0)
