"""Probes of models around torch's recurrent layers: the adjoint recursion, lag by lag, without a graph.

Where all of a model's state is that of one torch.nn.LSTM, GRU or RNN, the gradient with respect to the state at
every lag follows from the layers' own equations (recurrence.py): one forward pass over the window, then one step
back a lag for all loss positions at once, of which alone the outputs are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atbptt.decoding import LossFunction
from atbptt.lags import LagSums
from atbptt.measured import ParameterSums
from atbptt.models import halves
from atbptt.recurrence import Layer, Product, layers_of
from atbptt.segments import Segment, segments
from atbptt.shapes import check_outputs, losses_of
from atbptt.states import State, leaves, tensors

SEGMENT = 2**19  # numbers: the gradients of so many lags are summed up at once, while they are in cache
KEPT_GATES = 2**26  # numbers; where the gradients of the gates at all lags are more, they are computed twice


class UnsuitedError(Exception):
    """A model whose state is more than that of one of torch's recurrent modules, or that uses it otherwise."""


@dataclass(frozen=True)
class Recording:
    """What the recurrent module of a model did in a window of W steps.

    Attributes:
        rnn: the module.
        layers: its layers, with what they kept of the window.
        inputs: of each layer, (W, B, D).
        first: of each layer, the parts of its state before the window, (B, H).
        order: where each part of the module's state (h, c) is among the tensors of the model's.
    """

    rnn: nn.RNNBase
    layers: list[Layer]
    inputs: list[Tensor]
    first: list[list[Tensor]]
    order: list[int]

    def products(self) -> list[list[Product]]:
        """Where the parameters of each layer meet the adjoint."""
        return [
            layer.products(inputs, first)
            for layer, inputs, first in zip(self.layers, self.inputs, self.first, strict=True)
        ]


def record(model: nn.Module, inputs: Tensor, state: State) -> Recording:
    """Run a model over a window, (W, B, ...), from a state, without graph.

    Raises:
        UnsuitedError: the model's state is not that of its one recurrent module, run once over the window.
    """
    rnns = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
    layers = layers_of(rnns[0]) if len(rnns) == 1 else None
    if layers is None:
        raise UnsuitedError
    recur, _ = halves(model)
    recorded: list[Recording] = []

    def run(features: Tensor, given: State = None) -> tuple[Tensor, State]:
        order = _order(given, state)
        if recorded or features.dim() != 3 or len(features) != len(inputs):
            raise UnsuitedError
        layer_inputs, first, after = [], [], []
        for index, layer in enumerate(layers):
            layer_inputs.append(features)
            first.append([part[index] for part in tensors(given)])
            features, last = layer.run(features, first[-1])
            after.append(last)
        recorded.append(Recording(rnns[0], layers, layer_inputs, first, order))
        stacked = [torch.stack(parts) for parts in zip(*after, strict=True)]
        return features, tuple(stacked) if isinstance(given, tuple) else stacked[0]

    with torch.no_grad(), _standing_in(rnns[0], run):
        recur(inputs, state)
    if not recorded:
        raise UnsuitedError
    return recorded[0]


def loss_gradients(
    model: nn.Module,
    recording: Recording,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    positions: list[int],
) -> tuple[Tensor, Tensor]:
    """Losses at P steps of the window, (P, B), and their gradients with respect to the module's outputs, (P, B, H).

    Each loss is averaged over streams for its gradient.

    Raises:
        UnsuitedError: the outputs of a step, or the module's inputs, depend on the state in another way than through
            the module's outputs, or the state that the model hands over is not the module's.
    """
    recur, decode = halves(model)
    outputs = recording.layers[-1].outputs
    handed_in: State = None
    handed_out: list[Tensor] = []

    def step(features: Tensor, given: State = None) -> tuple[Tensor, State]:
        if features.requires_grad or _order(given, handed_in) != recording.order:
            raise UnsuitedError
        handed_out[:] = [part.detach().clone().requires_grad_() for part in tensors(given)]
        return output, tuple(handed_out) if isinstance(given, tuple) else handed_out[0]

    losses, gradients = [], []
    for position in positions[-1:] if recur is not model else positions:
        # Any state will do: its gradient tells whether the step depends on it.
        handed_in = leaves(state)
        output = outputs[position].unsqueeze(0).clone().requires_grad_()
        at = slice(position, position + 1)
        with torch.enable_grad(), _standing_in(recording.rnn, step):
            made, state_after = recur(inputs[at], handed_in)
        if _order(handed_out, state_after) != recording.order:
            raise UnsuitedError
        if recur is not model:
            if made is not output:
                raise UnsuitedError
            break
        with torch.enable_grad():
            check_outputs(made, inputs[at])
            value = losses_of(loss, made, targets[at])
            found = torch.autograd.grad(value.mean(), [output, *tensors(handed_in), *handed_out], allow_unused=True)
        if found[0] is None or any(gradient is not None for gradient in found[1:]):
            raise UnsuitedError
        losses.append(value.detach())
        gradients.append(found[0])
    if recur is model:
        return torch.cat(losses), torch.cat(gradients)
    with torch.enable_grad():
        features = outputs[positions].requires_grad_()  # (P, B, H)
        values = losses_of(loss, decode(features), targets[positions])
        (gradient,) = torch.autograd.grad(values.mean(dim=1).sum(), features)
    return values.detach(), gradient


def sum_lags(
    recording: Recording, gradient: Tensor, positions: list[int], lags: LagSums, parameters: ParameterSums | None
) -> None:
    """Take losses at P positions back to the window's start, and sum up their gradients at every lag.

    Arguments:
        gradient: of the losses with respect to the module's outputs at their positions, (P, B, H).
        positions: in ascending order.
        lags: takes the gradients with respect to the state.
        parameters: takes those of the recurrent parameters.
    """
    layers = recording.layers
    recursion = _Recursion(layers, gradient, positions)
    keep = recursion.size_of_gates <= KEPT_GATES
    starts, kept = [], []
    state = recursion.at_the_losses()
    for segment in recursion.segments:
        starts.append(state)
        before, gates = recursion.back(segment, state)
        for layer, parts in enumerate(before):
            for place, part in zip(recording.order, parts, strict=True):
                lags.add(place * len(layers) + layer, segment.lag, part)
        if parameters is not None:
            parameters.add_all(segment, gates)
            kept.append(gates if keep else None)
        state = [[part[-1] for part in parts] for parts in before]
    if parameters is not None:
        for segment, start, known in zip(recursion.segments[::-1], starts[::-1], kept[::-1], strict=True):
            parameters.take_lags(segment, recursion.back(segment, start)[1] if known is None else known)


class _Recursion:
    """The gradients of P losses, from lag to lag.

    Arguments:
        layers: with what they kept of the window.
        gradient: with respect to the last layer's outputs at the positions, (P, B, H).
        positions: in ascending order.
    """

    def __init__(self, layers: list[Layer], gradient: Tensor, positions: list[int]) -> None:
        self.layers = layers
        self.gradient = gradient
        batch = gradient.shape[1]
        numbers = len(positions) * batch * sum(layer.states * layer.hidden for layer in layers)
        self.segments = list(segments(positions, max(1, SEGMENT // numbers), gradient.device))
        cells = sum(segment.steps.numel() for segment in self.segments)
        self.size_of_gates = cells * batch * sum(layer.gates * layer.hidden for layer in layers)

    def at_the_losses(self) -> list[list[Tensor]]:
        """The gradient with respect to the state after the losses' steps: none, but for what `gradient` brings."""
        zero = torch.zeros_like(self.gradient)
        return [[zero] * layer.states for layer in self.layers]

    def back(self, segment: Segment, after: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Gradients with respect to the states and the gates at the lags of a segment.

        Arguments:
            after: of each layer, each part of the state after the segment's first cells, (P, B, H).

        Returns:
            Of each layer, each part of the state before each cell, (lags, P', B, H); of each layer, the gates,
            (lags, P', B, gates * H). P' positions are left in the segment.
        """
        lags, left = segment.steps.shape
        batch = self.gradient.shape[1]

        def empty(width: int) -> Tensor:
            return self.gradient.new_empty(lags, left, batch, width)

        before = [[empty(layer.hidden) for _ in range(layer.states)] for layer in self.layers]
        gates = [empty(layer.gates * layer.hidden) for layer in self.layers]
        after = [[part[-left:] for part in parts] for parts in after]
        to_fill = [layer.views(before[level], gates[level]) for level, layer in enumerate(self.layers)]
        by_lag = [[part.unbind(0) for part in parts] for parts in before]
        for index, cells in enumerate(segment.cells):
            above = self.gradient if segment.lag + index == 0 else None
            for level in reversed(range(len(self.layers))):
                self.layers[level].back(cells, above, after[level], to_fill[level][index])
                after[level] = [part[index] for part in by_lag[level]]
                above = self.layers[level].below(gates[level][index]) if level else None
        return before, gates


def _order(given: State, parts: State) -> list[int]:
    """Where each tensor of one state is among those of another, if both have the same ones.

    Raises:
        UnsuitedError: they have not.
    """
    if given is None:
        raise UnsuitedError
    places = {id(part): place for place, part in enumerate(tensors(parts))}
    order = [places.get(id(part), -1) for part in tensors(given)]
    if sorted(order) != list(range(len(places))):
        raise UnsuitedError
    return order


@contextmanager
def _standing_in(rnn: nn.RNNBase, run: Callable[..., tuple[Tensor, State]]) -> Iterator[None]:
    """Within, calls of the module do `run` instead."""
    if "forward" in vars(rnn):  # someone else's stands there
        raise UnsuitedError
    rnn.forward = run
    try:
        yield
    finally:
        del rnn.forward
