"""Streams: sequences that are read side by side."""

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from atbptt.errors import require
from atbptt.models import widened

Sequenced = TypeVar("Sequenced", Tensor, np.ndarray)


@dataclass(frozen=True)
class Stream:
    """B streams of T steps, as they are stored; `read` and `draw` return them as a model takes them.

    Attributes:
        inputs: (T, B) symbols, of any integer type, or (T, B, D) reals.
        targets: (T, B) symbols or (T, B, D) reals.
    """

    inputs: Tensor
    targets: Tensor

    @property
    def length(self) -> int:
        return len(self.inputs)

    @property
    def batch(self) -> int:
        return self.inputs.shape[1]

    def to(self, device: torch.device) -> Self:
        """The same streams on a device."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets.to(device))

    def read(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of steps start..stop-1 of all streams, (stop - start, B, ...)."""
        return self.present(self.inputs[start:stop], self.targets[start:stop])

    def draw(self, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and targets of `steps` consecutive steps of every stream, from starts drawn by the CPU's generator."""
        device = self.inputs.device
        starts = torch.randint(self.length - steps + 1, (self.batch,), generator=generator).to(device)
        rows = starts + torch.arange(steps, device=device)[:, None]  # (steps, B)
        columns = torch.arange(self.batch, device=device)
        return self.present(self.inputs[rows, columns], self.targets[rows, columns])

    def present(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Stored steps as a model takes them."""
        return widened(inputs), widened(targets)


def batchify(sequence: Sequenced, batch_size: int) -> Sequenced:
    """A sequence (N, ...) as `batch_size` contiguous pieces side by side, (N // B, B, ...); the remainder is dropped.

    Arguments:
        sequence: a tensor or array, of which a view is returned.
        batch_size: B, from 1 to N.

    Raises:
        ConfigError: B is not in 1..N.
    """
    require(1 <= batch_size <= len(sequence), "batch_size", batch_size, f"must lie in 1..{len(sequence)}")
    steps = len(sequence) // batch_size
    return sequence[: steps * batch_size].reshape(batch_size, steps, *sequence.shape[1:]).swapaxes(0, 1)
