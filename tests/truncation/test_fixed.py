from __future__ import annotations

import pytest

from atbptt.truncation import Fixed, Progress


def test_fixed_never_changes_nor_probes() -> None:
    policy = Fixed(K=7)
    policy.update(Progress(step=300, epoch_steps=100), lambda **_: pytest.fail("probed"))
    assert policy.K == 7
    assert policy.adjoint_factors(12) is None
