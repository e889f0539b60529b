"""Probes of any model by autograd: run step by step, so that the state after every step is a node of the graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models import (
    Halves,
    LossFunction,
    State,
    check_outputs,
    check_state,
    detach,
    leaves,
    losses_of,
    map_state,
    native_layers,
    tensors,
    thawed,
)
from atbptt.probes.lags import segments
from atbptt.probes.sums import LAGS_AT_ONCE, LagGradients, LagSums, ParameterGradients, parameter_gradients


class Unrolled:
    """A model run over a window of W steps with a graph, its parameters left out but for those given.

    Arguments:
        halves: of the model.
        inputs, targets: (W, B, ...).
        state: before the window, detached.
        positions: of the losses, in ascending order.
        parameters: by name.
    """

    def __init__(
        self,
        halves: Halves,
        loss: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        positions: list[int],
        parameters: dict[str, nn.Parameter],
    ) -> None:
        self.recur, self.decode = halves.recur, halves.decode
        self.loss = loss
        self.inputs, self.targets = inputs, targets
        self.positions = positions
        self.parameters = parameters
        self.states = [leaves(state)]  # before step t = 0..W
        features = []
        with torch.enable_grad(), thawed(parameters.values()):
            for t in range(positions[-1] + 1):
                feature, after = self.recur(inputs[t : t + 1], self.states[-1])
                check_outputs(feature, inputs[t : t + 1])
                check_state(after, inputs.shape[1])
                features.append(feature)
                # Nodes of their own: what one part of the state adds to another within the step, as an LSTM's c to
                # its h, is no way through the state. A part that nothing before decides still has a gradient.
                self.states.append(
                    map_state(lambda part: part.view_as(part) if part.requires_grad else leaves(part), after)
                )
            values = [self._loss(features[position], position) for position in positions]
            if not self._differentiate(values):
                rule = "must make outputs that depend on its state, which it must not detach"
                raise ConfigError("model", f"(={type(halves.model).__name__}) {rule}")
        self.losses = torch.cat([value.detach() for value in values])

    def _loss(self, features: Tensor, position: int) -> Tensor:
        losses = losses_of(self.loss, self.decode(features), self.targets[position : position + 1])
        return losses.to(features.dtype)

    def _differentiate(self, values: list[Tensor]) -> bool:
        """Take the gradients of all positions; whether any of them depends on a state."""
        parameters = list(self.parameters.values())
        depends = False
        self.full = [torch.zeros_like(parameter) for parameter in parameters]  # gradient of the losses' sum
        self.gradients: list[list[Tensor]] = []  # of each position, of each tensor of the state, (lags, [L,] B, H)
        for number, (value, position) in enumerate(zip(values, self.positions, strict=True)):
            earlier = [tensors(state) for state in self.states[position::-1]]  # lag 1 first
            of_states = [part for parts in earlier for part in parts]
            wanted = [*of_states, *parameters]
            gradients: Sequence[Tensor | None] = [None] * len(wanted)
            if value.requires_grad:
                gradients = torch.autograd.grad(
                    value.mean(),
                    wanted,
                    retain_graph=number < len(values) - 1,  # the graph is most of the memory
                    allow_unused=True,
                )
            depends = depends or any(gradient is not None for gradient in gradients[: len(of_states)])
            found = [
                torch.zeros_like(of) if gradient is None else gradient
                for of, gradient in zip(wanted, gradients, strict=True)
            ]
            self.full = [full + gradient for full, gradient in zip(self.full, found[len(of_states) :], strict=True)]
            kinds = len(earlier[0])
            self.gradients.append([torch.stack(found[kind : len(of_states) : kinds]) for kind in range(kinds)])
        self.states = [detach(state) for state in self.states]  # without the graph
        return depends

    def sum_lags(self, sums: LagSums) -> None:
        """Hand over the gradients with respect to the states."""
        for segment in segments(self.positions, LAGS_AT_ONCE, self.inputs.device):
            lags, left = segment.steps.shape
            component = 0
            for kind in range(len(self.gradients[0])):
                of_lags = [gradients[kind][segment.lag : segment.lag + lags] for gradients in self.gradients[-left:]]
                stacked = torch.stack(of_lags, dim=1)  # (lags, P', [L,] B, H)
                for layer in stacked.unbind(2) if stacked.dim() == 5 else (stacked,):
                    sums.add(component, segment.lag, layer)
                    component += 1

    def measure(self, window: int) -> ParameterGradients:
        """||g_K - g_W|| for every K, from the farthest cell on: each is run anew, and differentiated by itself."""
        parameters = list(self.parameters.values())
        beyond = [torch.zeros_like(full) for full in self.full]
        errors, products = np.zeros(window), np.zeros(window)
        with torch.enable_grad(), thawed(parameters):
            for lag in reversed(range(self.positions[-1] + 1)):
                errors[lag] = _inner(beyond, beyond)
                products[lag] = _inner(beyond, self.full)
                for number, position in enumerate(self.positions):
                    if lag <= position:
                        gained = self._of_cell(number, position, lag, parameters)
                        beyond = [part + gain for part, gain in zip(beyond, gained, strict=True)]
        scale = len(self.positions) ** -2  # of the mean over positions, squared
        square = scale * _inner(self.full, self.full)
        return parameter_gradients(list(self.parameters), square, scale * errors, scale * products, None)

    def _of_cell(self, number: int, position: int, lag: int, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
        """What the parameters' gradient of a loss gains in the cell `lag` steps before it."""
        step = position - lag
        features, after = self.recur(self.inputs[step : step + 1], self.states[step])
        if lag == 0:
            # The loss may have been decided before the step.
            pairs: list[tuple[Tensor, Tensor | None]] = [(self._loss(features, position).mean(), None)]
        else:
            pairs = list(zip(tensors(after), (of_kind[lag - 1] for of_kind in self.gradients[number]), strict=True))
        pairs = [(made, gradient) for made, gradient in pairs if made.requires_grad]
        if not pairs:
            return [torch.zeros_like(parameter) for parameter in parameters]
        made, gradients = zip(*pairs, strict=True)
        return torch.autograd.grad(made, parameters, gradients, materialize_grads=True)


def unrolled_gradients(
    halves: Halves,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    state: State,
    positions: list[int],
    components: Sequence[str],
    weights: np.ndarray,
    measured: bool,
    unsuited: str,
) -> LagGradients:
    """What `lag_gradients` returns, of any model; the streams are not resampled for the measured bias.

    Nothing is measured of a model without recurrent parameters.
    """
    with native_layers():
        parameters = recurrent_parameters(halves, inputs[:1], state) if measured else {}
        unrolled = Unrolled(halves, loss, inputs, targets, state, positions, parameters)
        sums = LagSums(components, len(inputs), unrolled.losses, weights)
        unrolled.sum_lags(sums)
        return sums.result(unrolled.measure(len(inputs)) if parameters else None, unsuited)


def recurrent_parameters(halves: Halves, inputs: Tensor, state: State) -> dict[str, nn.Parameter]:
    """The parameters on which the state after a step depends, by name, but for embeddings of the inputs.

    Arguments:
        inputs: of one step, (1, B, ...).
    """
    model = halves.model
    embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embedded = {id(parameter) for module in embeddings for parameter in module.parameters()}
    named = {name: parameter for name, parameter in model.named_parameters() if id(parameter) not in embedded}
    with torch.enable_grad(), thawed(named.values()):
        _, after = halves.recur(inputs, state)
        depend = [part.sum() for part in tensors(after) if part.requires_grad]
        if not depend or not named:
            return {}
        found = torch.autograd.grad(depend, list(named.values()), allow_unused=True)
    return {name: named[name] for name, gradient in zip(named, found, strict=True) if gradient is not None}


def _inner(first: list[Tensor], second: list[Tensor]) -> float:
    return sum(float((a.double() * b.double()).sum()) for a, b in zip(first, second, strict=True))
