"""What a data set is to the rest of the system: three streams, a loss, metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from atbptt.errors import require
from atbptt.models import cross_entropy
from atbptt.randomness import numpy_generator
from atbptt.windows import Stream

SPLITS = ("train", "valid", "test")


class Task(Protocol):
    """A data set: any class with these attributes works as `dataset._target_`.

    Its constructor checks its arguments and makes or opens the data, so that what is wrong is said before
    the first training step. Where an argument is named `path`, the content of that file or folder decides the
    experiment id, not its name; with a static method `data_files(arguments)`, that of the files it lists.

    Attributes:
        train, valid, test: the three splits.
        input_size: number of symbols V, or features D of real-valued inputs.
        output_size: number of outputs the model makes per step.
        metric_names: names of what `metrics` returns, the headline first, lower is better; logged as
            `valid_<name>`, ...
        notes: what a reader of the results should know of how the data was read, a line each; written to a
            run's log when it begins or continues. May be left out.

    It may have the method of `Predicting` besides.
    """

    train: Stream
    valid: Stream
    test: Stream
    input_size: int
    output_size: int
    metric_names: tuple[str, ...]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses in nats per step and stream, (T, B), of outputs (T, B, output_size)."""

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """What evaluation averages over all steps and streams of a split, each (T, B)."""

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics of a split from the means of its measures."""


@runtime_checkable
class Predicting(Protocol):
    """A task that tells what its outputs predict, for predictions.parquet; of others there is no such file."""

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Predicted and true numbers, each (T, B), by the name of the quantity.

        Symbols and events by number; `symbol`, `event`, `interval` and `value` are the names that figures know.
        """


class SymbolTask:
    """A task whose targets are symbols: cross entropy, and perplexity exp(mean loss)."""

    metric_names: tuple[str, ...] = ("ppl", "loss")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross entropy of logits (T, B, V) at symbols (T, B): (T, B)."""
        return cross_entropy(outputs, targets)

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The loss."""
        return {"loss": self.loss(outputs, targets)}

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The loss and its perplexity."""
        loss = means["loss"]
        return {"loss": loss, "ppl": math.exp(loss) if loss < 700 else math.inf}

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """`symbol`, the likeliest one."""
        return {"symbol": (outputs.argmax(dim=-1), targets)}


def require_two_steps(batch_size: int, steps: int, of: str, besides: str = "") -> None:
    """Raise a `ConfigError` unless `batchify` makes streams of at least 2 steps of `steps` steps.

    Arguments:
        of: what has the steps, for the message: `6 steps of the test arrays`.
        besides: what else it would take, the end of the message.
    """
    rule = f"is too large for the {of}: at least 2 steps a stream{besides}"
    require(2 * batch_size <= steps, "batch_size", batch_size, rule)


def batchify_note(split: str, what: str, steps: int, batch_size: int) -> str:
    """What `batchify` made of a split's `steps` steps, and what it dropped, for `Task.notes`."""
    length, rest = divmod(steps, batch_size)
    dropped = f"the last {rest} dropped" if rest else "none dropped"
    return f"{split}: {steps:,} {what} in {batch_size} streams of {length:,} steps, {dropped}"


def generated(
    task: str,
    steps: tuple[int, int, int],
    batch_size: int,
    seed: int,
    make: Callable[[int, np.random.Generator], Stream],
    shortest: int = 2,
) -> list[Stream]:
    """The train, valid and test stream of generated data, each from a generator of its own.

    Arguments:
        task: names the generators, with the split.
        steps: length T of each split.
        batch_size: streams B, at least 1.
        make: called with T and the generator.
        shortest: least length that shows the task.
    """
    for split, length in zip(SPLITS, steps, strict=True):
        require(length >= shortest, f"{split}_steps", length, f"must be at least {shortest}")
    require(batch_size >= 1, "batch_size", batch_size, "must be at least 1")
    return [make(length, numpy_generator(f"{task} {split}", seed)) for split, length in zip(SPLITS, steps, strict=True)]


def symbol_stream(inputs: np.ndarray, targets: np.ndarray) -> Stream:
    """A stream from two (T, B) integer arrays, of any size and byte order."""
    return Stream(torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64)))
