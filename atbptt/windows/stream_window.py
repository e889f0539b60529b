"""One window of a stream, as the training loop gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from atbptt.errors import require_whole
from atbptt.models import State
from atbptt.windows.schemes import Window, lr_scale
from atbptt.windows.update import averaged, window_loss

if TYPE_CHECKING:
    from atbptt.windows.loop import Windows


class StreamWindow:
    """One window of a stream: one loss to differentiate, one update.

    Attributes:
        steps: the steps of the stream that it reads and whose loss it counts.
        K: the policy's truncation length.
        losses: number of steps whose loss it counts; where not all count, as a mean over streams.
        averaged: number of losses, as a mean over streams, by which `loss` divides their sum: `losses`, but with scheme
            `buffer` where not all losses count.
        lr_scale: factor of the learning rate for a policy that draws K (AWD-LSTM's rule); 1 for others.
    """

    def __init__(self, windows: Windows, steps: Window, state: State) -> None:
        policy = windows.cursor.policy
        self._windows = windows
        self._stream = windows.stream
        self._state = state
        self.steps = steps
        self.K = windows.cursor.K
        self.losses = self._stream.losses(steps.loss_start, steps.loss_stop)
        self.averaged = averaged(self._stream, steps)
        self.lr_scale = lr_scale(policy, windows.cursor.scheme, self.averaged)
        self._factors = policy.adjoint_factors(steps.stop - steps.start)
        self._mean_loss: Tensor | None = None

    @property
    def mean_loss(self) -> Tensor:
        """Mean of the losses that it counts, detached (RuntimeError before `loss` is called)."""
        if self._mean_loss is None:
            raise RuntimeError("window.loss() must be called first: it computes the mean loss")
        return self._mean_loss

    def loss(self, steps_at_once: int | None = None) -> Tensor:
        """Run the model over the window: the scalar to call `backward` on, the mean of the losses that it counts.

        With scheme `buffer` it also has the losses of the look-ahead, which reach the parameters through the state
        only. The next window starts in the state computed here. A second call computes the same again.

        Arguments:
            steps_at_once: the most steps that are decoded at once, to bound the memory of many outputs; all by default.
        """
        if steps_at_once is not None:
            require_whole("steps_at_once", steps_at_once, 1)
        windows = self._windows
        objective, self._mean_loss, handed_over = window_loss(
            windows.halves,
            windows.loss,
            self._stream,
            self.steps,
            self._state,
            steps_at_once,
            self._factors,
            self._first(),
        )
        windows._hand_over(self, handed_over)
        return objective

    def _first(self) -> State:
        """The state of sequences that begin within the window, if any does."""
        within = self._stream.resetting(self.steps.start, self.steps.stop)
        return self._windows._first() if within else None
