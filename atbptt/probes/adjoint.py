"""Probes of models around torch's recurrent layers: the adjoint recursion, lag by lag, without a graph.

Where all of a model's state is that of one torch.nn.LSTM, GRU or RNN, the gradient with respect to the state at every
lag follows from the layers' equations (layers.py): one forward pass over the window, then one step back a lag for all
loss positions at once. Only the outputs at the loss positions are decoded.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from atbptt.models import State, at, leaves, tensors
from atbptt.probes.lags import Kept, LagSums, ProbeWindow, Segment, segments
from atbptt.probes.layers import Beginnings, Layer, layers_of
from atbptt.probes.parameters import ParameterSums

SEGMENT = 2**19  # numbers: the gradients of this many lags are summed up at once, while they are in cache
KEPT_GATES = 2**26  # numbers: if the gradients of the gates at all lags are more, they are computed again for each part


class UnsuitedError(Exception):
    """The model's state is more than that of one recurrent module of torch, or is used otherwise; says why."""


@dataclass(frozen=True)
class Recording:
    """The forward pass of a model's recurrent module over a window of W steps."""

    rnn: nn.RNNBase
    layers: list[Layer]  # after their `run`
    order: list[int]  # the place of each part of the module's state (h, c) among the tensors of the model's state
    keep: Kept | None = None  # (W, B, 1): 0 where a stream begins anew, so that no gradient reaches the state before

    @property
    def outputs(self) -> Tensor:  # (W, B, H)
        return self.layers[-1].outputs


def record(window: ProbeWindow) -> Recording:
    """Run the model over the window without a graph (UnsuitedError unless its one module runs once, with its state)."""
    halves = window.halves
    rnns = [module for module in halves.model.modules() if isinstance(module, nn.RNNBase)]
    if len(rnns) != 1:
        raise UnsuitedError(f"it has {len(rnns)} of torch's recurrent modules, not one")
    layers = layers_of(rnns[0])
    if layers is None:
        raise UnsuitedError("its recurrent module is not a plain torch.nn.LSTM, GRU or RNN with parameters of its own")
    recorded: list[Recording] = []
    keep = None
    if window.resets is not None and window.resetting:
        keep = Kept((~window.resets).to(tensors(window.state)[0].dtype)[:, :, None])

    def run(features: Tensor, given: State) -> tuple[Tensor, list[Tensor]]:
        order = _order(given, window.state)
        if recorded or len(features) != window.length:
            raise UnsuitedError("its recurrent module is not run once over the window")
        after = []
        firsts = [tensors(window.first)[place] for place in order] if window.resetting else []
        for index, layer in enumerate(layers):
            anew = Beginnings(window.resets, window.resetting, [part[index] for part in firsts])
            features, last = layer.run(features, [part[index] for part in tensors(given)], anew)
            after.append(last)
        recorded.append(Recording(rnns[0], layers, order, keep))
        # A copy: the model may change it in place.
        return features.clone(), [torch.stack(parts) for parts in zip(*after, strict=True)]

    with torch.no_grad(), _standing_in(rnns[0], run):
        halves.recur(window.inputs, window.state)
    if not recorded:
        raise UnsuitedError("its recurrent module is not run")
    return recorded[0]


def loss_gradients(window: ProbeWindow, recording: Recording) -> tuple[Tensor, Tensor]:
    """Losses at the positions, (P, B), and the gradients of their means over streams, by the outputs: (P, B, H).

    UnsuitedError if the model uses the state other than through the module's outputs.
    """
    last = _Step(window, recording, window.positions[-1])
    if last.features is last.handed_on:  # the second half begins right after the module
        with torch.enable_grad():
            leaf = recording.outputs[window.positions].requires_grad_()
            losses = window.losses(leaf.clone(), window.positions, leaf.dtype)
            (gradient,) = torch.autograd.grad(losses.mean(dim=1).sum(), leaf)
        return losses.detach(), gradient
    steps = [_Step(window, recording, position) for position in window.positions[:-1]]
    found = [step.differentiate(window) for step in (*steps, last)]
    return torch.cat([losses for losses, _ in found]), torch.cat([gradient for _, gradient in found])


class _Step:
    """One step of the model with a graph; its recurrent module returns the recorded outputs."""

    def __init__(self, window: ProbeWindow, recording: Recording, position: int) -> None:
        self.at = slice(position, position + 1)
        self.state = leaves(window.state)  # values do not matter: its gradient shows whether the step depends on it
        self.after = [part.clone().requires_grad_() for part in tensors(window.state)]
        self.output = recording.outputs[position].unsqueeze(0).clone().requires_grad_()

        def run(features: Tensor, given: State) -> tuple[Tensor, list[Tensor]]:
            if features.requires_grad:
                raise UnsuitedError("what its recurrent module reads depends on the state")
            _order(given, self.state)
            self.handed_on = self.output.clone()
            return self.handed_on, [self.after[place] for place in recording.order]

        with torch.enable_grad(), _standing_in(recording.rnn, run):
            self.features, state_after = window.halves.recur(at(window.inputs, self.at), self.state)
        if [id(part) for part in tensors(state_after)] != [id(part) for part in self.after]:
            raise UnsuitedError("the state it hands on is not its recurrent module's")

    def differentiate(self, window: ProbeWindow) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            losses = window.losses(self.features, self.at, self.output.dtype)
            wanted = [self.output, *tensors(self.state), *self.after]
            gradient, *others = torch.autograd.grad(losses.mean(), wanted, allow_unused=True)
        if gradient is None or any(other is not None for other in others):
            raise UnsuitedError("its outputs depend on the state beside its recurrent module's outputs")
        return losses.detach(), gradient


def sum_lags(
    recording: Recording, gradient: Tensor, positions: list[int], lags: LagSums, parameters: ParameterSums | None
) -> None:
    """Take the `loss_gradients` back to the window's start, and add them to the sums of every lag."""
    layers, batch = recording.layers, gradient.shape[1]
    numbers = len(positions) * batch * sum(layer.states * layer.hidden for layer in layers)
    all_lags = list(segments(positions, max(SEGMENT // numbers, 1), gradient.device))
    cells = batch * sum(position + 1 for position in positions)
    widths = [layer.gates * layer.hidden for layer in layers]
    parts = 1 if parameters is None else -(-cells * sum(widths) // KEPT_GATES)
    for part in range(parts):
        columns = [slice(width * part // parts, width * (part + 1) // parts) for width in widths]
        kept: list[list[Tensor]] = []
        state = [[torch.zeros_like(gradient)] * layer.states for layer in layers]
        for segment in all_lags:
            before, gates = _back(layers, gradient, segment, state, recording.keep)
            if part == 0:
                for level, of_layer in enumerate(before):
                    for place, of_state in zip(recording.order, of_layer, strict=True):
                        lags.add(place * len(layers) + level, segment.lag, of_state)
            if parameters is not None:
                parameters.scale(gates)
                if part == 0:
                    parameters.sketch(segment, gates)
                some = (of_layer[..., at] for of_layer, at in zip(gates, columns, strict=True))
                kept.append(gates if parts == 1 else [of_layer.clone() for of_layer in some])
            state = [[of_state[-1].clone() for of_state in of_layer] for of_layer in before]  # without the segment's
        if parameters is not None:
            parameters.take(all_lags, kept, columns)


def _back(
    layers: list[Layer], gradient: Tensor, segment: Segment, after: list[list[Tensor]], keep: Kept | None
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Gradients by each layer's states before the cells, (lags, P', B, H), and gates, (lags, P', B, gates * H).

    `gradient` is with respect to the last layer's outputs, `after` to the states after the first cells, (P, B, H).
    """
    lags, batch = len(segment.steps), gradient.shape[1]

    def empty(width: int) -> Tensor:
        return gradient.new_empty(lags, segment.count, batch, width)

    before = [[empty(layer.hidden) for _ in range(layer.states)] for layer in layers]
    gates = [empty(layer.gates * layer.hidden) for layer in layers]
    after = [[part[-segment.count :] for part in parts] for parts in after]
    filled = [_by_lag(layer.views(before[level], gates[level])) for level, layer in enumerate(layers)]
    states = [_by_lag(parts) for parts in before]
    for index in range(lags):
        above = gradient if segment.lag + index == 0 else None
        for level in reversed(range(len(layers))):
            if above is not None:
                after[level][0] = after[level][0] + above
            layers[level].back(segment, index, after[level], filled[level][index])
            after[level] = list(states[level][index])
            if keep is not None:
                for part in after[level]:
                    part *= keep.at(segment, index)
            above = layers[level].below(gates[level][index]) if level else None
    return before, gates


def _by_lag(parts: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Views of the parts at each lag; made one by one they take more time."""
    return list(zip(*(part.unbind(0) for part in parts), strict=True))


def _order(given: State, parts: State) -> list[int]:
    """The place of each tensor of the given state among the parts, which must be the same tensors."""
    places = {id(part): place for place, part in enumerate(tensors(parts))}
    order = [] if given is None else [places.get(id(part), -1) for part in tensors(given)]
    if sorted(order) != list(range(len(places))):
        raise UnsuitedError("its state is not what its recurrent module is given")
    return order


@contextmanager
def _standing_in(rnn: nn.RNNBase, run: Callable[[Tensor, State], tuple[Tensor, list[Tensor]]]) -> Iterator[None]:
    """Replace the module by `run`; any error is an UnsuitedError: the model's own come again step by step."""
    if "forward" in vars(rnn):
        raise UnsuitedError("something stands in for its recurrent module")

    def forward(input: Tensor, hx: State = None) -> tuple[Tensor, State]:  # noqa: A002  # torch's name, by which some call
        if not isinstance(input, Tensor) or input.dim() != 3:
            raise UnsuitedError("its recurrent module reads no tensor (T, B, D)")
        outputs, after = run(input.transpose(0, 1) if rnn.batch_first else input, hx)
        outputs = outputs.transpose(0, 1) if rnn.batch_first else outputs
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
