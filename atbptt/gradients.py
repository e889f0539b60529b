"""Probes: how large the gradient of a loss is with respect to the recurrent state k steps earlier.

Plain autograd: the model runs step by step, so that the state after every step is a node of the graph, and
one backward pass per loss position gives the gradient at all lags.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from atbptt.errors import require
from atbptt.models import halves
from atbptt.modes import evaluating, frozen
from atbptt.states import leaves, tensors
from atbptt.updates import LossFunction


@dataclass(frozen=True)
class LagGradients:
    """Gradients of losses at P positions with respect to the states at lags 1..W; row 0 is lag 1.

    The loss at a position is the mean over the B streams. A position that lies fewer than W steps into the
    window has no state at the largest lags: NaN there. A gradient that is not finite has infinite norm.

    Attributes:
        norms: phi, (P, W, B), over all layers and, for an LSTM, h and c together.
        component_norms: the same for each of C components (each state tensor of each layer), (C, P, W, B).
        components: their names, `hidden0`, `cell0`, ...
        kept_of_mean: (W,), the norm of the gradient, averaged over streams and positions and summed over
            lags up to the row's.
        component_kept_of_mean: the same for each component, (C, W).
    """

    norms: np.ndarray
    component_norms: np.ndarray
    components: tuple[str, ...]
    kept_of_mean: np.ndarray
    component_kept_of_mean: np.ndarray


def loss_positions(window: int, first: int, count: int) -> list[int]:
    """`count` steps of a probe window, evenly spaced from its last step down to step `first`.

    With `first` = tau every position has a state at lags 1..tau+1, all that the sums of the bias estimate
    take; lags beyond serve the fit of the decay only, and are averaged over the positions that have them.
    """
    spaced = np.linspace(window - 1, first, count) if count > 1 else np.array([window - 1])
    return sorted({round(float(position)) for position in spaced})


def lag_gradients(
    model: nn.Module,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    positions: list[int],
    burn_in: int = 0,
    state: object | None = None,
) -> LagGradients:
    """Measure phi for every lag, stream and component at each loss position.

    Dropout is off, the model's mode is restored, and no gradient is left on its parameters.

    Arguments:
        inputs, targets: burn_in + W steps, (burn_in + W, B, ...).
        positions: steps of the window (0..W-1) whose loss is differentiated.
        burn_in: steps run without gradient before the window.
        state: where the burn-in starts; zero if left out.
    """
    window = len(inputs) - burn_in
    require(window >= 1, "inputs", len(inputs), f"must be more steps than burn_in (={burn_in})")
    for position in positions:
        require(0 <= position < window, "positions", position, f"must lie in the window, 0..{window - 1}")
    with evaluating(model), frozen(model), _native_layers(), torch.enable_grad():
        return _lag_gradients(model, loss, inputs, targets, positions, burn_in, state)


@contextmanager
def _native_layers() -> Iterator[None]:
    """Within, torch's recurrent layers use no library.

    cuDNN refuses their backward pass in evaluation mode; mkldnn keeps a workspace of megabytes for every step, and
    step by step is slower (H = 900, B = 32, W = 400: 1.8 instead of 0.6 GB, 12.8 instead of 4.8 s).
    """
    mkldnn = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]  # its context manager warns of other settings it touches
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mkldnn.enabled = mkldnn


def _lag_gradients(
    model: nn.Module,
    loss: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    positions: list[int],
    burn_in: int,
    state: object | None,
) -> LagGradients:
    batch = inputs.shape[1]
    window = len(inputs) - burn_in
    if state is None:
        state = model.initial_state(batch)  # type: ignore[operator]
    recur, decode = halves(model)
    if burn_in:
        with torch.no_grad():
            _, state = recur(inputs[:burn_in], state)
    state = leaves(state)
    names = _component_names(model, tensors(state))
    states = [tensors(state)]  # the state before step t, for t = 0..W
    features = []
    for t in range(burn_in, burn_in + window):
        feature, state = recur(inputs[t : t + 1], state)
        features.append(feature)
        states.append(tensors(state))
    squared = np.full((len(positions), len(names), window, batch), np.nan)
    total_mean: list[np.ndarray] = []  # per position (lags, features), gradient averaged over streams
    sizes: list[int] = []
    for p, position in enumerate(positions):
        at = burn_in + position
        value = loss(decode(features[position]), targets[at : at + 1]).mean()
        earlier = states[position::-1]  # lag 1 first
        gradients = torch.autograd.grad(
            value,
            [part for parts in earlier for part in parts],
            retain_graph=p < len(positions) - 1,  # the graph is most of the memory
            materialize_grads=True,
        )
        count_of_parts = len(earlier[0])
        means: list[Tensor] = []
        for i in range(count_of_parts):
            stacked = torch.stack(gradients[i::count_of_parts])  # (lags, [L,] B, H)
            for layer in stacked.unbind(1) if stacked.dim() == 4 else (stacked,):
                layer = layer.double()
                square = layer.square().sum(dim=-1).nan_to_num(nan=torch.inf)
                squared[p, len(means), : position + 1] = square.cpu().numpy()
                means.append(layer.mean(dim=1))
        total_mean.append(torch.cat(means, dim=1).cpu().numpy())
        sizes = [part.shape[-1] for part in means]
    mean = np.zeros((window, sum(sizes)))
    count = np.zeros((window, 1))
    for gradient in total_mean:
        mean[: len(gradient)] += gradient
        count[: len(gradient)] += 1
    cumulative = np.cumsum(mean / np.maximum(count, 1), axis=0)
    pieces = np.split(cumulative, np.cumsum(sizes)[:-1], axis=1)
    return LagGradients(
        norms=np.sqrt(squared.sum(axis=1)),
        component_norms=np.sqrt(squared).swapaxes(0, 1),
        components=names,
        kept_of_mean=np.linalg.norm(cumulative, axis=1),
        component_kept_of_mean=np.stack([np.linalg.norm(piece, axis=1) for piece in pieces]),
    )


def _component_names(model: nn.Module, parts: list[Tensor]) -> tuple[str, ...]:
    """`hidden0`, `hidden1`, `cell0`, ...: the model's `state_names` (or `state`) and the layer."""
    given = getattr(model, "state_names", ())
    names = list(given) if len(given) == len(parts) else [f"state{i}_" for i in range(len(parts))]
    return tuple(
        f"{name}{layer}"
        for name, part in zip(names, parts, strict=True)
        for layer in range(part.shape[0] if part.dim() == 3 else 1)
    )
