"""Streams: sequences that are read side by side."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence, pad_sequence

from atbptt.errors import listed, require
from atbptt.models import (
    Halves,
    LossFunction,
    Nested,
    State,
    at,
    axes,
    both_counted,
    counted_by,
    joined,
    map_tensors,
    recur_anew,
    resetting,
    share_counted,
    tensors,
    widened,
)

Sequenced = TypeVar("Sequenced", Tensor, np.ndarray)
AT_ONCE = 2**22  # outputs for which a loss tells at once which of its losses count


class Drawn(NamedTuple):
    """Steps of all streams, each from a start of its own."""

    inputs: Nested  # (T', B, ...)
    targets: Nested  # (T', B, ...)
    counted: Tensor | None  # (T', B)
    resets: Tensor | None  # (T', B)


@dataclass(frozen=True)
class Stream:
    """B streams of T steps, as they are stored; `read` and `draw` return them as a model takes them.

    Attributes:
        inputs: (T, B) symbols, of any integer type, or (T, B, D) reals; or a tuple, list or dict of such.
        targets: likewise.
        counted: which losses count, (T, B), as booleans or as weights from 0 on; all if None.
        resets: where a new sequence begins, (T, B), so that the state before the step is the model's first; nowhere
            but at the start if None.
    """

    inputs: Nested
    targets: Nested
    counted: Tensor | None = field(default=None, kw_only=True)
    resets: Tensor | None = field(default=None, kw_only=True)

    @property
    def length(self) -> int:
        return axes(self.inputs)[0]

    @property
    def batch(self) -> int:
        return axes(self.inputs)[1]

    def to(self, device: torch.device) -> Self:
        """The same streams on a device."""
        parts = {name: getattr(self, name) for name in ("inputs", "targets", "counted", "resets")}
        given = {name: part for name, part in parts.items() if part is not None}
        return replace(self, **map_tensors(lambda part: part.to(device), given))

    def recur(self, halves: Halves, start: int, inputs: Nested, state: State, first: State) -> tuple[Nested, State]:
        """Run a model's first half over inputs read from `start` on; `first` is the state in which sequences begin."""
        if self.resets is None:
            return halves.recur(inputs, state)
        stop = start + axes(inputs)[0]
        return recur_anew(halves.recur, inputs, state, self.resets[start:stop], first, self.resetting(start, stop))

    def resetting(self, start: int, stop: int) -> list[int]:
        """The steps from start to stop - 1, counted from `start`, at which a stream begins anew."""
        first, last = bisect_left(self._resetting, start), bisect_left(self._resetting, stop)
        return [step - start for step in self._resetting[first:last]]

    @cached_property
    def _resetting(self) -> list[int]:
        return resetting(self.resets)

    def counting_in(self, start: int, stop: int) -> Tensor | None:
        """`counted` of steps start..stop-1; None if all losses count."""
        return None if self.counted is None else self.counted[start:stop]

    def losses(self, start: int, stop: int) -> float:
        """How many losses of steps start..stop-1 count, as a mean over streams: stop - start if all do."""
        if self._counts is None:
            return stop - start
        return float(self._counts[stop] - self._counts[start]) / self.batch

    @cached_property
    def share(self) -> float:
        """The share of the losses that count, see `models.share_counted`."""
        return 1.0 if self.counted is None else share_counted(self.counted)

    @cached_property
    def _counts(self) -> np.ndarray | None:
        """Losses of all streams that count before each step, (T + 1,)."""
        if self.counted is None:
            return None
        of_steps = self.counted.sum(dim=1, dtype=torch.float64).cpu().numpy()
        return np.concatenate([[0.0], np.cumsum(of_steps)])

    def counting(self, loss: LossFunction, output: Nested | None) -> Self:
        """The same streams, of which only those losses count that count for `loss`, too; see `models.counted_by`."""
        if output is None:
            return self
        steps = max(1, AT_ONCE // (self.batch * sum(part.numel() for part in tensors(output))))
        found = []
        for start in range(0, self.length, steps):
            _, targets = self.read(start, min(start + steps, self.length))
            counted = counted_by(loss, targets, output)
            assert counted is not None
            found.append(counted)
        return replace(self, counted=both_counted(self.counted, torch.cat(found)))

    def read(self, start: int, stop: int) -> tuple[Nested, Nested]:
        """Inputs and targets of steps start..stop-1 of all streams, (stop - start, B, ...)."""
        steps = slice(start, stop)
        return self.present(at(self.inputs, steps), at(self.targets, steps))

    def draw(self, steps: int, generator: torch.Generator) -> Drawn:
        """`steps` consecutive steps of every stream, from starts drawn by the CPU's generator.

        Where not all losses count, that of the last step does, if any from step `steps` on does in its stream.
        """
        device = tensors(self.inputs)[0].device
        starts = self._starts(steps, generator).to(device)
        rows = starts + torch.arange(steps, device=device)[:, None]  # (steps, B)
        drawn = rows, torch.arange(self.batch, device=device)
        inputs, targets = self.present(at(self.inputs, drawn), at(self.targets, drawn))
        counted, resets = (None if part is None else part[drawn] for part in (self.counted, self.resets))
        return Drawn(inputs, targets, counted, resets)

    def _starts(self, steps: int, generator: torch.Generator) -> Tensor:
        if self._ranks is None:
            return torch.randint(self.length - steps + 1, (self.batch,), generator=generator)
        before = self._ranks[:, steps - 1 : steps]  # losses that count before the first step that may be the last one
        ranks = self._ranks[:, -1:] - before
        some = torch.where(ranks > 0, ranks, 1)
        wanted = before + (torch.rand(self.batch, 1, generator=generator, dtype=torch.float64) * some).long() + 1
        chosen = torch.searchsorted(self._ranks, wanted) - steps
        anywhere = torch.randint(self.length - steps + 1, (self.batch, 1), generator=generator)
        return torch.where(ranks > 0, chosen, anywhere).squeeze(1)

    @cached_property
    def _ranks(self) -> Tensor | None:
        """How many losses of each stream count at all before each step, (B, T + 1), on the CPU."""
        if self.counted is None:
            return None
        return nn.functional.pad((self.counted > 0).cpu().t().cumsum(dim=1), (1, 0)).contiguous()

    def present(self, inputs: Nested, targets: Nested) -> tuple[Nested, Nested]:
        """Stored steps as a model takes them."""
        return widened(inputs), widened(targets)


def side_by_side(drawn: Sequence[Drawn]) -> Drawn:
    """Steps drawn one after another from the same streams, as of so many times the streams."""
    inputs, targets, *others = zip(*drawn, strict=True)
    counted, resets = (None if parts[0] is None else torch.cat(parts, dim=1) for parts in others)
    return Drawn(joined(inputs, dim=1), joined(targets, dim=1), counted, resets)


def padded(sequences: Sequence[Tensor] | PackedSequence | Tensor) -> tuple[Tensor, Tensor]:
    """Sequences of unequal length side by side, (T, B, ...), zeros behind their ends; and where they are, (T, B).

    Arguments:
        sequences: a list of tensors (T_b, ...), a nested tensor of them, or a `PackedSequence`.

    Raises:
        ConfigError: there is none, one is empty, or they are not alike but for their length.
    """
    if isinstance(sequences, PackedSequence):
        values, lengths = pad_packed_sequence(sequences)
    else:
        rule = "must be a list of tensors (T, ...), a nested tensor of them, or a PackedSequence"
        require(isinstance(sequences, Tensor | list | tuple), "sequences", type(sequences).__name__, rule)
        parts = list(sequences.unbind() if isinstance(sequences, Tensor) else sequences)
        require(len(parts) > 0, "sequences", [], "must hold a sequence")
        some = [part for part in parts if not isinstance(part, Tensor) or part.dim() == 0]
        require(not some, "sequences", f"a list with {some[:1]}", rule)
        features = {f"{tuple(part.shape[1:])} {part.dtype}": None for part in parts}
        require(len(features) == 1, "sequences", listed(features), "must have features of one shape and type")
        lengths = torch.tensor([len(part) for part in parts])
        values = pad_sequence(parts)
    shortest = int(lengths.min())
    require(shortest > 0, "sequences", lengths.tolist(), "must have lengths of at least 1")
    return values, torch.arange(len(values), device=values.device)[:, None] < lengths.to(values.device)


def batchify(sequence: Sequenced, batch_size: int) -> Sequenced:
    """A sequence (N, ...) as `batch_size` contiguous pieces side by side, (N // B, B, ...); the remainder is dropped.

    Arguments:
        sequence: a tensor or array, of which a view is returned.
        batch_size: B, from 1 to N.

    Raises:
        ConfigError: B is not in 1..N.
    """
    fits = isinstance(batch_size, int | np.integer) and 1 <= batch_size <= len(sequence)
    require(fits, "batch_size", batch_size, f"must be a whole number in 1..{len(sequence)}")
    steps = len(sequence) // batch_size
    return sequence[: steps * batch_size].reshape(batch_size, steps, *sequence.shape[1:]).swapaxes(0, 1)
