import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models.recurrent import check_recurrent
from tests.helpers.flawed import (
    FLAWED,
    SOUND,
    CausalAttention,
    GatedAttention,
    LayerNorm,
    NormOverSteps,
    NormOverStreams,
)
from tests.helpers.networks import V, events, network, point_process, symbols

OURS: dict[str, Callable[[], nn.Module]] = {
    cell: lambda cell=cell: network(cell=cell, layers=2, dropout=0.5, embedding=4)  # type: ignore[misc]
    for cell in ("lstm", "gru", "rnn_tanh", "rnn_relu")
}


def in_bfloat16() -> nn.Module:
    return network(layers=2).to(torch.bfloat16)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("make", [*OURS.values(), in_bfloat16, *(lambda kind=kind: kind(V, V) for kind in SOUND)])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_a_model_that_remembers_by_its_state_passes(make: Callable[[], nn.Module], steps: int) -> None:
    check_recurrent(make(), symbols(steps))


def test_also_on_events_and_one_stream() -> None:
    check_recurrent(point_process(layers=2, dropout=0.5), events(20))
    check_recurrent(network(dropout=0.5), symbols(20)[:, :1])


def test_a_leak_smaller_than_the_models_rounding_is_found() -> None:
    with pytest.raises(ConfigError, match=FLAWED[GatedAttention]):
        check_recurrent(GatedAttention(V, V).to(torch.bfloat16), symbols(20))


def test_streams_that_are_all_the_same_hide_nothing() -> None:
    with pytest.raises(ConfigError, match=FLAWED[NormOverStreams]):
        check_recurrent(NormOverStreams(V, V), symbols(20)[:, :1].expand(-1, 3))


def test_what_probes_run_needs_to_hold_in_evaluation_mode_only() -> None:
    check_recurrent(NormOverSteps(V, V), symbols(20), training=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [LayerNorm, NormOverSteps, CausalAttention])
def test_the_check_changes_nothing(kind: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    def everything() -> Any:
        generators = torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        modes = [(module.training, getattr(module, "dropout", None)) for module in model.modules()]
        return generators, modes, {name: values.tolist() for name, values in model.state_dict().items()}

    model = kind(V, V).to(dtype)
    model.backward_rnn.eval()
    before, kept = everything(), copy.deepcopy(model.state_dict())
    try:
        check_recurrent(model, symbols(20))
    except ConfigError:
        assert kind in FLAWED
    assert everything() == before
    assert [values.dtype for values in model.state_dict().values()] == [values.dtype for values in kept.values()]


class Masked(nn.Module):
    """Its own zero state is None, and some of its outputs are infinite."""

    def __init__(self, forgets: bool) -> None:
        super().__init__()
        self.forgets = forgets

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        sums = inputs[..., None].float().cumsum(dim=0) + (0 if state is None else state)
        return torch.cat([sums, torch.full_like(sums, -torch.inf)], dim=-1), sums[-1] * (not self.forgets)


class Complex(nn.Module):
    """Rotates its state; its gate, which begins closed, lets later steps in if it `sees` them."""

    def __init__(self, sees: bool) -> None:
        super().__init__()
        self.turn, self.gate = nn.Parameter(torch.tensor(0.5j)), nn.Parameter(torch.zeros(V, dtype=torch.cfloat))
        self.sees = sees

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:
        assert self.turn.is_complex()
        now, outputs = torch.complex(state, state) if state is not None else torch.zeros(()), []
        for step in nn.functional.one_hot(inputs, V):
            now = self.turn * now.real + step
            outputs.append(now.real + now.imag)
        leak = (self.gate * inputs[-1, :, None]).imag
        return torch.stack(outputs) + leak * self.sees, now.real


@pytest.mark.filterwarnings("error")
def test_complex_parameters_stay_complex() -> None:
    check_recurrent(Complex(sees=False), symbols(20))
    with pytest.raises(ConfigError, match="it sees later steps"):
        check_recurrent(Complex(sees=True), symbols(20))


class Resumed(nn.GRU):
    """Begins each pass where the last one ended; in place: changes the tensor that it begins with."""

    def __init__(self, in_place: bool) -> None:
        super().__init__(V, V)
        self.begins, self.in_place = torch.zeros(1, 1, V), in_place

    def initial_state(self, batch: int) -> Tensor:
        return self.begins.expand(1, batch, V) if len(self.begins[0]) == 1 else self.begins

    def forward(self, inputs: Tensor, state: Any) -> tuple[Tensor, Any]:  # type: ignore[override]
        outputs, after = super().forward(nn.functional.one_hot(inputs, V).to(state), state)
        if self.in_place:
            return outputs, state.data.copy_(after)
        self.begins = after.detach()
        return outputs, after


def test_a_zero_state_that_remembers_is_found() -> None:
    with pytest.raises(ConfigError, match=r"^model \(=Resumed\) must have the same initial_state again"):
        check_recurrent(Resumed(in_place=False), symbols(20))


def test_a_model_that_changes_the_state_it_is_given_is_told_so() -> None:
    with pytest.raises(ConfigError, match="changes what it is given"):
        check_recurrent(Resumed(in_place=True), symbols(20), torch.zeros(1, symbols(20).shape[1], V))


def test_infinite_outputs_hide_nothing() -> None:
    check_recurrent(Masked(forgets=False), symbols(20))
    with pytest.raises(ConfigError, match=r"^model \(=Masked\) must give the same outputs in two pieces as in one"):
        check_recurrent(Masked(forgets=True), symbols(20))
