"""Probes of models around torch's recurrent layers: the adjoint recursion, lag by lag, without a graph.

Where all of a model's state is that of one torch.nn.LSTM, GRU or RNN, the gradient with respect to the state at
every lag follows from the layers' own equations (layers.py): one forward pass over the window, then one step
back a lag for all loss positions at once, of which alone the outputs are decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atbptt.models import Halves, LossFunction, State, check_outputs, leaves, losses_of, tensors
from atbptt.probes.lags import Segment, segments
from atbptt.probes.layers import Layer, Product, layers_of
from atbptt.probes.sums import LagSums, ParameterSums

SEGMENT = 2**19  # numbers: the gradients of so many lags are summed up at once, while they are in cache
KEPT_GATES = 2**26  # numbers; where the gradients of the gates at all lags are more, they are computed twice


class UnsuitedError(Exception):
    """A model whose state is more than that of one recurrent module of torch, or that uses it otherwise; says why."""


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

    @property
    def outputs(self) -> Tensor:
        """The module's outputs, (W, B, H)."""
        return self.layers[-1].outputs

    def products(self) -> list[list[Product]]:
        """Where the parameters of each layer meet the adjoint."""
        return [
            layer.products(inputs, first)
            for layer, inputs, first in zip(self.layers, self.inputs, self.first, strict=True)
        ]


def record(halves: Halves, inputs: Tensor, state: State) -> Recording:
    """Run a model over a window, (W, B, ...), from a state, without graph.

    Raises:
        UnsuitedError: the model's state is not that of its one recurrent module, run once over the window.
    """
    rnns = [module for module in halves.model.modules() if isinstance(module, nn.RNNBase)]
    if len(rnns) != 1:
        raise UnsuitedError(f"it has {len(rnns)} of torch's recurrent modules, not one")
    layers = layers_of(rnns[0])
    if layers is None:
        raise UnsuitedError("its recurrent module is not a plain torch.nn.LSTM, GRU or RNN with parameters of its own")
    recorded: list[Recording] = []

    def run(features: Tensor, given: State) -> tuple[Tensor, list[Tensor]]:
        order = _order(given, state)
        if recorded or len(features) != len(inputs):
            raise UnsuitedError("its recurrent module is not run once over the window")
        layer_inputs, first, after = [], [], []
        for index, layer in enumerate(layers):
            layer_inputs.append(features)
            first.append([part[index] for part in tensors(given)])
            features, last = layer.run(features, first[-1])
            after.append(last)
        recorded.append(Recording(rnns[0], layers, layer_inputs, first, order))
        # A copy: what the model does with it in place is no matter of the layers'.
        return features.clone(), [torch.stack(parts) for parts in zip(*after, strict=True)]

    with torch.no_grad(), _standing_in(rnns[0], run):
        halves.recur(inputs, state)
    if not recorded:
        raise UnsuitedError("its recurrent module is not run")
    return recorded[0]


def loss_gradients(
    halves: Halves,
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
    last = _Step(halves, recording, inputs, state, positions[-1])
    if last.features is last.handed_on:  # the second half begins right after the module
        with torch.enable_grad():
            leaf = recording.outputs[positions].requires_grad_()
            losses = losses_of(loss, halves.decode(leaf.clone()), targets[positions]).to(leaf.dtype)
            (gradient,) = torch.autograd.grad(losses.mean(dim=1).sum(), leaf)
        return losses.detach(), gradient
    steps = [_Step(halves, recording, inputs, state, position) for position in positions[:-1]]
    found = [step.differentiate(loss, halves.decode, targets) for step in (*steps, last)]
    return torch.cat([losses for losses, _ in found]), torch.cat([gradient for _, gradient in found])


class _Step:
    """One step of a model whose recurrent module gives what it gave in the window, with a graph of all else.

    Raises:
        UnsuitedError: the module's inputs depend on the state, or the state handed over is not the module's.
    """

    def __init__(self, halves: Halves, recording: Recording, inputs: Tensor, state: State, position: int) -> None:
        self.position = position
        self.state = leaves(state)  # any will do: its gradient tells whether the step depends on it
        self.after = [part.clone().requires_grad_() for part in tensors(state)]
        self.output = recording.outputs[position].unsqueeze(0).clone().requires_grad_()

        def run(features: Tensor, given: State) -> tuple[Tensor, list[Tensor]]:
            if features.requires_grad:
                raise UnsuitedError("what its recurrent module reads depends on the state")
            _order(given, self.state)
            self.handed_on = self.output.clone()
            return self.handed_on, [self.after[place] for place in recording.order]

        step = inputs[position : position + 1]
        with torch.enable_grad(), _standing_in(recording.rnn, run):
            self.features, state_after = halves.recur(step, self.state)
        if [id(part) for part in tensors(state_after)] != [id(part) for part in self.after]:
            raise UnsuitedError("the state it hands on is not its recurrent module's")
        check_outputs(self.features, step)

    def differentiate(
        self, loss: LossFunction, decode: Callable[[Tensor], Tensor], targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Its losses, (1, B), and the gradient of their mean with respect to the module's outputs, (1, B, H)."""
        with torch.enable_grad():
            losses = losses_of(loss, decode(self.features), targets[self.position : self.position + 1])
            losses = losses.to(self.output.dtype)
            wanted = [self.output, *tensors(self.state), *self.after]
            gradient, *others = torch.autograd.grad(losses.mean(), wanted, allow_unused=True)
        if gradient is None or any(other is not None for other in others):
            raise UnsuitedError("its outputs depend on the state beside its recurrent module's outputs")
        return losses.detach(), gradient


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
    recursion = _Recursion(layers, gradient, positions, parameters is not None)
    starts: list[list[list[Tensor]]] = []
    kept: list[list[Tensor]] = []
    state = recursion.at_the_losses()
    for segment in recursion.segments:
        if recursion.twice:
            starts.append(state)
        before, gates = recursion.back(segment, state)
        for layer, parts in enumerate(before):
            for place, part in zip(recording.order, parts, strict=True):
                lags.add(place * len(layers) + layer, segment.lag, part)
        if parameters is not None:
            parameters.add_all(segment, gates)
            if not recursion.twice:
                kept.append(gates)
        state = [[part[-1].clone() for part in parts] for parts in before]  # without the segment's memory
    if parameters is not None:
        for segment in reversed(recursion.segments):
            gates = recursion.back(segment, starts.pop())[1] if recursion.twice else kept.pop()
            parameters.take_lags(segment, gates)


class _Recursion:
    """The gradients of P losses, from lag to lag.

    Arguments:
        layers: with what they kept of the window.
        gradient: with respect to the last layer's outputs at the positions, (P, B, H).
        positions: in ascending order.
        measured: whether the gates' gradients at all lags are needed again, from the farthest lag on.

    Attributes:
        segments: all lags in order.
        twice: whether these gradients are too many to keep, and computed a second time.
    """

    def __init__(self, layers: list[Layer], gradient: Tensor, positions: list[int], measured: bool) -> None:
        self.layers = layers
        self.gradient = gradient
        batch = gradient.shape[1]
        cells = sum(position + 1 for position in positions)
        gates = cells * batch * sum(layer.gates * layer.hidden for layer in layers)
        self.twice = measured and gates > KEPT_GATES
        numbers = len(positions) * batch * sum(layer.states * layer.hidden for layer in layers)
        # Computed again from where a segment starts: as many starts are kept as a segment has lags.
        longest = max(SEGMENT // numbers, math.isqrt(positions[-1]) if self.twice else 1, 1)
        self.segments = list(segments(positions, longest, gradient.device))

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
    places = {id(part): place for place, part in enumerate(tensors(parts))}
    order = [] if given is None else [places.get(id(part), -1) for part in tensors(given)]
    if sorted(order) != list(range(len(tensors(parts)))):
        raise UnsuitedError("its state is not what its recurrent module is given")
    return order


@contextmanager
def _standing_in(rnn: nn.RNNBase, run: Callable[[Tensor, State], tuple[Tensor, list[Tensor]]]) -> Iterator[None]:
    """Within, calls of the module do `run` instead, which gives outputs and the parts of the state after.

    Raises:
        UnsuitedError: whatever goes wrong within. If it is the model's own fault, it will tell again.
    """
    if "forward" in vars(rnn):
        raise UnsuitedError("something stands in for its recurrent module")

    def forward(input: Tensor, hx: State = None) -> tuple[Tensor, State]:  # noqa: A002  # torch's name, by which some call
        if not isinstance(input, Tensor) or input.dim() != 3:
            raise UnsuitedError("its recurrent module reads no tensor (T, B, D)")
        outputs, after = run(input, hx)
        return outputs, tuple(after) if isinstance(rnn, nn.LSTM) else after[0]

    rnn.forward = forward
    try:
        yield
    except UnsuitedError:
        raise
    except Exception as error:
        raise UnsuitedError(f"it fails when its recurrent module is replaced: {error}") from error
    finally:
        del rnn.forward
