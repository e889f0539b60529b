"""Both ways to measure what a probe measures."""

from collections.abc import Callable
from typing import Any

import pytest

from atbptt.probes.gradients import lag_gradients
from atbptt.probes.lags import LagGradients
from tests.helpers.probing import force_autograd

WAYS = ("adjoint", "autograd")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to measure a model of torch's layers."""
    if request.param == "autograd":
        force_autograd(monkeypatch)
    return request.param


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LagGradients, LagGradients]]:
    """The same probe measured both ways."""

    def measure(*arguments: Any, **options: Any) -> tuple[LagGradients, LagGradients]:
        by_layers = lag_gradients(*arguments, **options)
        with monkeypatch.context() as patch:
            force_autograd(patch)
            return by_layers, lag_gradients(*arguments, **options)

    return measure
