"""torch's recurrent layers taken apart: a forward pass that keeps what the adjoint needs, and the adjoint itself.

The equations are those of the documentation of torch.nn.LSTM, GRU and RNN. A layer runs over T steps once and keeps
the derivatives of its gates (its *factors*). It then takes the gradient with respect to its state back by one step, for
many loss positions at once. torch's fused forward does not return its gates; to compute them again from the states
takes 1.4 to 1.8 times as long as this loop over time.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from atbptt.probes.lags import Kept, Segment

ALIGNMENT = 16  # numbers; rows of other lengths make a matrix product three times slower
AT_ONCE = 2**16  # numbers whose derivatives are computed at once, so that temporary results stay in cache


@dataclass(frozen=True)
class Product:
    """Parameters whose gradient is the sum of gates^T inputs over cells."""

    start: int  # their columns among the gates that `Layer.back` fills in
    stop: int
    kept: Kept  # (T, B, n): the layer's inputs, its state, ones for the biases, zeros for the alignment


@dataclass(frozen=True)
class Beginnings:
    """Where streams begin anew within the steps of a layer."""

    resets: Tensor | None  # (T, B)
    steps: frozenset[int]  # at which any does
    first: list[Tensor]  # the parts of the state in which they begin, (B, H)

    def before(self, states: Tensor, part: int) -> Tensor:
        """States (T, B, H) as the steps read them, of those that the steps before have left."""
        if not self.steps:
            return states
        assert self.resets is not None
        return torch.where(self.resets[:, :, None], self.first[part], states)

    def at(self, step: int, state: list[Tensor]) -> list[Tensor]:
        """The same of one step, each part (B, H)."""
        assert self.resets is not None
        mask = self.resets[step][:, None]
        return [torch.where(mask, first, part) for first, part in zip(self.first, state, strict=True)]


class Layer(ABC):
    """One layer of H hidden units; weights are torch's weight_ih, weight_hh, and with biases bias_ih and bias_hh."""

    states: ClassVar[int] = 1  # tensors of its state: (h,), or (h, c) of an LSTM
    gates: ClassVar[int] = 1  # columns of the gates that `back` fills in, in units of H
    outputs: Tensor  # (T, B, H)

    def __init__(self, weights: list[Tensor]) -> None:
        weights = [weight.detach() for weight in weights]
        self.input_weight, self.state_weight, *biases = weights
        self.hidden = self.state_weight.shape[1]
        self.biased = bool(biases)
        self.input_bias, self.state_bias = biases or [weights[0].new_zeros(len(weights[0]))] * 2

    def run(self, inputs: Tensor, state: list[Tensor], anew: Beginnings) -> tuple[Tensor, list[Tensor]]:
        """Inputs (T, B, D) and the state, each part (B, H), to outputs (T, B, H) and the state after; keeps factors."""
        self.inputs, self.first, self.anew = inputs, state[0], anew
        return self._run(inputs, state)

    @abstractmethod
    def _run(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]: ...

    @abstractmethod
    def views(self, before: list[Tensor], gates: Tensor) -> tuple[Tensor, ...]:
        """What `back` fills in, at all lags: gradients by the state before, (lags, P, B, H), and by the gates."""

    @abstractmethod
    def back(self, segment: Segment, index: int, after: list[Tensor], filled: tuple[Tensor, ...]) -> None:
        """Take the gradient by the state after, each part (P, B, H), back by a step; fill in the lag's `views`."""

    def below(self, gates: Tensor) -> Tensor:
        """Gradient with respect to the inputs, (P, B, D), from the gates that `back` filled in."""
        return gates @ self.input_weight

    def products(self) -> list[Product]:
        """Its parameters by the gates that they lead to, after `run`."""
        # Both biases have the same gradient: in its norm one column of ones counts twice.
        columns = [self.inputs, self._states_before(), *self._ones(2**0.5)]
        return [Product(0, self.gates * self.hidden, _aligned(columns))]

    def _states_before(self) -> Tensor:
        return self.anew.before(torch.cat([self.first.unsqueeze(0), self.outputs[:-1]]), 0)  # (T, B, H)

    def _ones(self, value: float) -> list[Tensor]:
        return [self.inputs.new_full((*self.inputs.shape[:2], 1), value)] if self.biased else []

    def _projected(self, inputs: Tensor, bias: Tensor) -> Tensor:
        flat = torch.addmm(bias, inputs.flatten(0, 1), self.input_weight.t())
        return flat.view(*inputs.shape[:2], -1)  # (T, B, gates H)


class LSTMLayer(Layer):
    """Gates o, i, f, g, in this order, not torch's: c = f c + i g, h = o tanh(c)."""

    states = 2
    gates = 4

    def __init__(self, weights: list[Tensor]) -> None:
        # The three sigmoids side by side, and the three gates that act on the cell.
        super().__init__([torch.cat([o, i, f, g]) for i, f, g, o in (weight.chunk(4) for weight in weights)])

    def _run(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        H, steps = self.hidden, len(inputs)
        gates = self._projected(inputs, self.input_bias + self.state_bias)
        cells = inputs.new_empty(steps + 1, *state[1].shape)
        cells[0] = state[1]
        squashed = torch.empty_like(cells[1:])  # tanh(c)
        self.outputs = torch.empty_like(squashed)
        weight = self.state_weight.t()
        hidden, cell = state[0], cells[0]
        o, i, f, g = gates.chunk(4, dim=-1)
        in_steps = (gates, gates[..., : 3 * H], o, i, f, g, cells[1:], squashed, self.outputs)
        for step, (gate, sigmoids, o_t, i_t, f_t, g_t, cell_after, squashed_after, hidden_after) in enumerate(
            zip(*(part.unbind(0) for part in in_steps), strict=True)
        ):
            if step in self.anew.steps:
                hidden, cell = self.anew.at(step, [hidden, cell])
            gate.addmm_(hidden, weight)
            sigmoids.sigmoid_()
            g_t.tanh_()
            cell = torch.mul(f_t, cell, out=cell_after).addcmul_(i_t, g_t)
            torch.tanh(cell, out=squashed_after)
            hidden = torch.mul(o_t, squashed_after, out=hidden_after)
        before = self.anew.before(cells[:-1], 1)
        forget, through = torch.empty_like(squashed), torch.empty_like(squashed)
        for at in _chunks(self.outputs):
            o, i, f, g = gates[at].chunk(4, dim=-1)
            tanh = squashed[at]
            forget[at] = f
            torch.addcmul(o, o * tanh, tanh, value=-1, out=through[at])
            of_g = torch.addcmul(i, i * g, g, value=-1)
            sigmoids = gates[at][..., : 3 * H]
            slopes = torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1)
            torch.mul(slopes[..., :H], tanh, out=o)
            torch.mul(slopes[..., H : 2 * H], g, out=i)
            torch.mul(slopes[..., 2 * H :], before[at], out=f)
            g.copy_(of_g)
        # The gates' derivatives, by the gradient of the output and by that of the cell; dc/dc before, and dh/dc.
        self.by_output, self.by_cell = Kept(gates[..., :H]), Kept(gates[..., H:].unflatten(-1, (3, H)))
        self.forget, self.through = Kept(forget), Kept(through)
        return self.outputs, [hidden, cell]

    def views(self, before: list[Tensor], gates: Tensor) -> tuple[Tensor, ...]:
        of_output, of_cell = gates[..., : self.hidden], gates[..., self.hidden :].unflatten(-1, (3, self.hidden))
        return before[0].flatten(1, 2), before[1], of_output, of_cell, gates.flatten(1, 2)

    def back(self, segment: Segment, index: int, after: list[Tensor], filled: tuple[Tensor, ...]) -> None:
        hidden_before, cell_before, of_output, of_cell, gates = filled
        output = after[0]
        cell = torch.addcmul(after[1], output, self.through.at(segment, index))
        torch.mul(output, self.by_output.at(segment, index), out=of_output)
        torch.mul(cell.unsqueeze(-2), self.by_cell.at(segment, index), out=of_cell)
        torch.mm(gates, self.state_weight, out=hidden_before)
        torch.mul(cell, self.forget.at(segment, index), out=cell_before)


class GRULayer(Layer):
    """Gates r, z, n: n = tanh(. + r q) with q = W_hn h + b_hn, h = (1 - z) n + z h.

    The gates that `back` fills in are r, z, n of the inputs' product, then n of the state's, r times that.
    """

    gates = 4

    def _run(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        H = self.hidden
        (hidden,) = state
        by_input = self._projected(inputs, self.input_bias)
        by_state = torch.empty_like(by_input)
        states = inputs.new_empty(len(inputs) + 1, *hidden.shape)
        states[0] = hidden
        weight = self.state_weight.t()
        r, z, n = by_input.chunk(3, dim=-1)
        sums, q = by_state[..., : 2 * H], by_state[..., 2 * H :]
        in_steps = (by_state, by_input[..., : 2 * H], sums, r, z, n, q, states[:-1], states[1:])
        for step, (product, sigmoids, sums_t, r_t, z_t, n_t, q_t, before, after) in enumerate(
            zip(*(part.unbind(0) for part in in_steps), strict=True)
        ):
            if step in self.anew.steps:
                (before,) = self.anew.at(step, [before])
            torch.addmm(self.state_bias, before, weight, out=product)
            sigmoids.add_(sums_t).sigmoid_()
            n_t.addcmul_(r_t, q_t).tanh_()
            torch.lerp(n_t, before, z_t, out=after)
        self.outputs = states[1:]
        earlier = self.anew.before(states[:-1], 0)
        factors = inputs.new_empty(*inputs.shape[:2], 4, H)
        update = torch.empty_like(self.outputs)
        for at in _chunks(self.outputs):
            of_r, of_z, of_n, of_q = factors[at].unbind(2)
            torch.mul(1 - z[at], 1 - n[at].square(), out=of_n)
            torch.mul(of_n, r[at], out=of_q)
            torch.mul(of_q * q[at], 1 - r[at], out=of_r)
            torch.mul((earlier[at] - n[at]) * z[at], 1 - z[at], out=of_z)
            update[at] = z[at]
        self.factors, self.update = Kept(factors), Kept(update)
        return self.outputs, [states[-1]]

    def views(self, before: list[Tensor], gates: Tensor) -> tuple[Tensor, ...]:
        H = self.hidden
        flat = gates.flatten(1, 2)
        of_r_and_z, of_q = flat[..., : 2 * H], flat[..., 3 * H :]
        return before[0], before[0].flatten(1, 2), gates.unflatten(-1, (4, H)), of_r_and_z, of_q

    def back(self, segment: Segment, index: int, after: list[Tensor], filled: tuple[Tensor, ...]) -> None:
        before, flat_before, gates, of_r_and_z, of_q = filled
        torch.mul(after[0].unsqueeze(-2), self.factors.at(segment, index), out=gates)
        torch.mul(after[0], self.update.at(segment, index), out=before)
        flat_before.addmm_(of_r_and_z, self.state_weight[: 2 * self.hidden])
        flat_before.addmm_(of_q, self.state_weight[2 * self.hidden :])

    def below(self, gates: Tensor) -> Tensor:
        return gates[..., : 3 * self.hidden] @ self.input_weight

    def products(self) -> list[Product]:
        H, ones = self.hidden, self._ones(1.0)
        of_inputs, of_state = _aligned([self.inputs, *ones]), _aligned([self._states_before(), *ones])
        return [Product(0, 3 * H, of_inputs), Product(0, 2 * H, of_state), Product(3 * H, 4 * H, of_state)]


class RNNLayer(Layer):
    """h = tanh of the sum of the inputs' and the state's products."""

    relu: ClassVar[bool] = False

    def _run(self, inputs: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (hidden,) = state
        self.outputs = self._projected(inputs, self.input_bias + self.state_bias)
        activate = torch.relu_ if self.relu else torch.tanh_
        for step, output in enumerate(self.outputs):
            if step in self.anew.steps:
                (hidden,) = self.anew.at(step, [hidden])
            hidden = activate(output.addmm_(hidden, self.state_weight.t()))
        self.slope = Kept((self.outputs > 0).to(self.outputs.dtype) if self.relu else 1 - self.outputs.square())
        return self.outputs, [hidden]

    def views(self, before: list[Tensor], gates: Tensor) -> tuple[Tensor, ...]:
        return before[0].flatten(1, 2), gates, gates.flatten(1, 2)

    def back(self, segment: Segment, index: int, after: list[Tensor], filled: tuple[Tensor, ...]) -> None:
        before, gates, flat_gates = filled
        torch.mul(after[0], self.slope.at(segment, index), out=gates)
        torch.mm(flat_gates, self.state_weight, out=before)


class ReLULayer(RNNLayer):
    relu = True


LAYERS: dict[str, Callable[[list[Tensor]], Layer]] = {  # by the module's mode
    "LSTM": LSTMLayer,
    "GRU": GRULayer,
    "RNN_TANH": RNNLayer,
    "RNN_RELU": ReLULayer,
}


def layers_of(rnn: nn.RNNBase) -> list[Layer] | None:
    """The layers of a module, or None if its options, derived class or shared parameters do not allow it."""
    if type(rnn) not in (nn.LSTM, nn.GRU, nn.RNN) or rnn.bidirectional or rnn.proj_size:
        return None
    weights = [weight for of_layer in rnn.all_weights for weight in of_layer]
    own = {id(weight) for weight in weights if isinstance(weight, nn.Parameter)}
    if len(own) < len(weights):
        return None
    return [LAYERS[rnn.mode](list(of_layer)) for of_layer in rnn.all_weights]


def _chunks(outputs: Tensor) -> Iterator[slice]:
    steps = max(1, AT_ONCE // outputs[0].numel())
    for start in range(0, len(outputs), steps):
        yield slice(start, start + steps)


def _aligned(columns: list[Tensor]) -> Kept:
    missing = -sum(part.shape[-1] for part in columns) % ALIGNMENT
    padding = columns[0].new_zeros(*columns[0].shape[:2], missing)
    return Kept(torch.cat([*columns, padding], dim=-1))
