"""Probes of any model by autograd: run step by step, so that the state after every step is a node of the graph."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.errors import ConfigError
from atbptt.models import (
    Halves,
    Nested,
    State,
    at,
    begun_anew,
    detach,
    differentiable,
    leaves,
    map_tensors,
    native_layers,
    ordered_as,
    tensors,
    thawed,
)
from atbptt.probes.lags import LAGS_AT_ONCE, LagGradients, LagSums, ProbeWindow, segments
from atbptt.probes.parameters import ParameterGradients, TruncationSums

SUMMED = 2**26  # numbers: of so many parameters, times W, the sums over lags are kept at once


def unrolled_gradients(
    window: ProbeWindow, components: Sequence[str], weights: np.ndarray, scheme: str | None, unsuited: str
) -> LagGradients:
    """`lag_gradients` of any model; the measured bias is not resampled, and its noise not known."""
    with native_layers():
        parameters = recurrent_parameters(window.halves, at(window.inputs, slice(1)), window.state) if scheme else {}
        unrolled = _Unrolled(window, parameters)
        sums = LagSums(components, window, unrolled.losses, weights)
        unrolled.sum_lags(sums)
        return sums.result(unrolled.measure(scheme) if scheme and parameters else None, unsuited)


def recurrent_parameters(halves: Halves, inputs: Nested, state: State) -> dict[str, nn.Parameter]:
    """The parameters on which the state after a step, (1, B, ...), depends, by name; embeddings are left out."""
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


class _Unrolled:
    """The model run over the window with a graph of the states and the given parameters, by name."""

    def __init__(self, window: ProbeWindow, parameters: dict[str, nn.Parameter]) -> None:
        self.window = window
        self.names, self.parameters = list(parameters), list(parameters.values())
        self.states = [leaves(window.state)]  # before step t = 0..W
        features = []
        with torch.enable_grad(), thawed(self.parameters):
            for t in range(window.positions[-1] + 1):
                feature, after = window.halves.recur(at(window.inputs, slice(t, t + 1)), self._begun(t))
                features.append(feature)
                # Nodes of their own: what one part of the state adds to another within the step, as an LSTM's c to
                # its h, is no way through the state. A part that nothing before decides still has a gradient.
                after = ordered_as(self.states[0], after)
                self.states.append(
                    map_tensors(lambda part: part.view_as(part) if part.requires_grad else leaves(part), after)
                )
            values = [self._loss(features[position], position) for position in window.positions]
            if not self._differentiate(values):
                rule = "must make outputs that depend on its state, which it must not detach"
                raise ConfigError("model", f"(={type(window.halves.model).__name__}) {rule}")
        self.losses = torch.cat([value.detach() for value in values])

    def _begun(self, step: int) -> State:
        """The state that a step reads: the first one, of streams that begin anew."""
        if step not in self.window.resetting:
            return self.states[step]
        assert self.window.resets is not None
        return begun_anew(self.states[step], self.window.first, self.window.resets[step])

    def _loss(self, features: Nested, position: int) -> Tensor:
        return self.window.losses(features, slice(position, position + 1), differentiable(features)[0].dtype)

    def _differentiate(self, values: list[Tensor]) -> bool:
        """Take the gradients of all positions; returns whether any depends on a state."""
        depends = False
        self.gradients: list[list[Tensor]] = []  # of each position, of each tensor of the state, (lags, [L,] B, H)
        for number, (value, position) in enumerate(zip(values, self.window.positions, strict=True)):
            earlier = [differentiable(state) for state in self.states[position::-1]]  # lag 1 first
            of_states = [part for parts in earlier for part in parts]
            gradients: Sequence[Tensor | None] = [None] * len(of_states)
            if value.requires_grad:
                more = number < len(values) - 1  # the graph is most of the memory
                gradients = torch.autograd.grad(value.mean(), of_states, retain_graph=more, allow_unused=True)
            depends = depends or any(gradient is not None for gradient in gradients)
            found = [
                torch.zeros_like(of) if gradient is None else gradient
                for of, gradient in zip(of_states, gradients, strict=True)
            ]
            kinds = len(earlier[0])
            self.gradients.append([torch.stack(found[kind::kinds]) for kind in range(kinds)])
        self.states = [detach(state) for state in self.states]  # without the graph
        return depends

    def sum_lags(self, sums: LagSums) -> None:
        for segment in segments(self.window.positions, LAGS_AT_ONCE, self.losses.device):
            lags = slice(segment.lag, segment.lag + len(segment.steps))
            component = 0
            for of_kind in zip(*self.gradients[-segment.count :], strict=True):
                stacked = torch.stack([gradients[lags] for gradients in of_kind], dim=1)  # (lags, P', [L,] B, H)
                for layer in stacked.unbind(2) if stacked.dim() == 5 else (stacked,):
                    sums.add(component, segment.lag, layer)
                    component += 1

    def measure(self, scheme: str) -> ParameterGradients:
        """||m_K - g_W|| for every K: each cell is run anew, and differentiated by itself.

        For every `SUMMED` numbers of parameters times W again, since their sums over lags take so much memory.
        """
        positions, window = self.window.positions, self.window.length
        sums = TruncationSums(window, scheme, self.losses.device)
        count, some = sum(parameter.numel() for parameter in self.parameters), max(1, SUMMED // (window + 1))
        for start in range(0, count, some):
            taken = slice(start, min(start + some, count))

            def add(beyond: Tensor, lag: int, taken: slice = taken) -> None:
                for number, position in enumerate(positions):
                    if lag <= position:
                        with torch.enable_grad(), thawed(self.parameters):
                            found = self._of_cell(number, position, lag)
                        beyond += torch.cat([part.flatten() for part in found])[taken]

            size = taken.stop - taken.start
            sums.take(torch.zeros(1, size, dtype=torch.float64, device=self.losses.device), add)
        return sums.result(self.names, 1 / len(positions))

    def _of_cell(self, number: int, position: int, lag: int) -> Sequence[Tensor]:
        """The part of a loss's parameter gradient that comes from the step `lag` steps before it."""
        step, factors = position - lag, self.window.of_mean()
        features, after = self.window.halves.recur(at(self.window.inputs, slice(step, step + 1)), self._begun(step))
        after = ordered_as(self.states[0], after)
        if lag == 0:
            # The loss may have been decided before the step.
            losses = self._loss(features, position)
            losses = losses if factors is None else losses * factors[number].to(losses)
            pairs: list[tuple[Tensor, Tensor | None]] = [(losses.mean(), None)]
        else:
            by_state = [of_kind[lag - 1] for of_kind in self.gradients[number]]  # ([L,] B, H)
            if factors is not None:
                by_state = [gradient * factors[number].to(gradient)[:, None] for gradient in by_state]
            pairs = list(zip(differentiable(after), by_state, strict=True))
        pairs = [(made, gradient) for made, gradient in pairs if made.requires_grad]
        if not pairs:
            return [torch.zeros_like(parameter) for parameter in self.parameters]
        made, gradients = zip(*pairs, strict=True)
        return torch.autograd.grad(made, self.parameters, gradients, materialize_grads=True)
