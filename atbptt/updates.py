"""One update: a window's loss, its gradient, clipping, a step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atbptt.models import halves
from atbptt.modes import frozen
from atbptt.states import State, detach
from atbptt.streams import Stream
from atbptt.windows import Window

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats
LossFunction = Callable[[Tensor, Tensor], Tensor]

LR_SCALINGS = ("none", "sqrt", "linear")


def window_loss(
    model: nn.Module, loss: LossFunction, stream: Stream, window: Window, state: State
) -> tuple[Tensor, Tensor, State]:
    """The forward pass of one window.

    Arguments:
        stream: the whole stream that the window is cut from.
        state: the detached state at `window.start`.

    Returns:
        The scalar to differentiate, the mean of the losses that the window counts (equal to it but for
        `buffer`, where it lacks what the look-ahead adds), and the detached state at `window.next_start`.
    """
    recur, decode = halves(model)
    inputs, targets = stream.read(window.start, window.stop)
    handed_over_at, counted_from, counted_to = (
        step - window.start for step in (window.next_start, window.loss_start, window.loss_stop)
    )
    pieces = []
    handed_over: State = state
    if handed_over_at > 0:
        piece, handed_over = recur(inputs[:handed_over_at], state)
        pieces.append(piece)
    after = handed_over
    if counted_to > handed_over_at:
        piece, after = recur(inputs[handed_over_at:counted_to], handed_over)
        pieces.append(piece)
    features = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    # The pre-roll is not decoded: its losses are not taken.
    mean = loss(decode(features[counted_from:]), targets[counted_from:counted_to]).mean()
    objective = mean
    if window.stop > window.loss_stop:
        with frozen(model):
            ahead, _ = recur(inputs[counted_to:], after)
            outputs = decode(ahead)
        beyond = loss(outputs, targets[counted_to:])
        objective = mean + beyond.mean(dim=1).sum() / window.losses
    return objective, mean.detach(), detach(handed_over)


def step(
    model: nn.Module, optimizer: torch.optim.Optimizer, objective: Tensor, max_norm: float | None
) -> Tensor | None:
    """Differentiate, clip the gradient's norm at `max_norm`, update; the norm before clipping."""
    optimizer.zero_grad(set_to_none=True)
    objective.backward()
    norm = None
    if max_norm is not None:
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return norm


def scaled_lr(lr: float, scaling: str, K: int, share: float = 1.0) -> float:
    """lr, lr * sqrt(K) or lr * K: with mean losses, a window of K losses deserves a larger step.

    Arguments:
        share: losses of the window as a part of a full window's. The last window of a stream may be short: scaled
            with the whole K, its few losses would count many times what others do, and make a step as much longer.
    """
    K_of_window = K * min(share, 1.0)
    return {"none": lr, "sqrt": lr * K_of_window**0.5, "linear": lr * K_of_window}[scaling]
