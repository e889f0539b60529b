"""One update: a window's loss, its gradient, clipping, a step of the optimizer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from atbptt.modes import frozen
from atbptt.states import State, detach
from atbptt.windows import Window

# (outputs (T, B, ...), targets (T, B, ...)) -> losses (T, B) in nats
LossFunction = Callable[[Tensor, Tensor], Tensor]

LR_SCALINGS = ("none", "sqrt", "linear")


def window_loss(
    model: nn.Module, loss: LossFunction, inputs: Tensor, targets: Tensor, window: Window, state: State
) -> tuple[Tensor, Tensor, State]:
    """The forward pass of one window.

    Arguments:
        inputs, targets: the whole stream, (T, B, ...).
        state: the detached state at `window.start`.

    Returns:
        The scalar to differentiate, the mean of the losses that the window counts (equal to it but for
        `buffer`, where it lacks what the look-ahead adds), and the detached state at `window.next_start`.
    """
    outputs = []
    handed_over: State = state
    if window.next_start > window.start:
        piece, handed_over = model(inputs[window.start : window.next_start], state)
        outputs.append(piece)
    after = handed_over
    if window.loss_stop > window.next_start:
        piece, after = model(inputs[window.next_start : window.loss_stop], handed_over)
        outputs.append(piece)
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    counted = loss(output[window.loss_start - window.start :], targets[window.loss_start : window.loss_stop])
    mean = counted.mean()
    objective = mean
    if window.stop > window.loss_stop:
        with frozen(model):
            ahead, _ = model(inputs[window.loss_stop : window.stop], after)
        beyond = loss(ahead, targets[window.loss_stop : window.stop])
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


def scaled_lr(lr: float, scaling: str, K: int) -> float:
    """lr, lr * sqrt(K) or lr * K: with mean losses, a window of K losses deserves a larger step."""
    return {"none": lr, "sqrt": lr * K**0.5, "linear": lr * K}[scaling]
