"""The protocol of a data set: three streams, a loss, metrics."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from atbptt.errors import require
from atbptt.models import cross_entropy
from atbptt.randomness import numpy_generator
from atbptt.system import as_size, require_memory
from atbptt.windows import Stream, batchify

SPLITS = ("train", "valid", "test")


class Task(Protocol):
    """A data set: any class with these attributes works as `dataset._target_`.

    The constructor checks its arguments and makes or opens the data; `atbptt.system.require_memory` refuses what needs
    too much. An argument named `path` counts in the experiment id by the content of that file or folder, or of the
    files that a static method `data_files(arguments)` lists; a list among them is of as many as there happen to be.
    The methods of `Predicting` and `Changing` are optional.

    Attributes:
        train, valid, test: the three splits.
        input_size: number of symbols V, or features D of real-valued inputs.
        output_size: number of outputs of the model per step.
        metric_names: names of what `metrics` returns, the headline first; lower is better. Logged as `valid_<name>`.
        notes: optional; lines about how the data was read, written to a run's log when it starts or resumes.
    """

    train: Stream
    valid: Stream
    test: Stream
    input_size: int
    output_size: int
    metric_names: tuple[str, ...]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses in nats per step and stream, (T, B), of outputs (T, B, output_size); finite where they do not count.

        Which count is said by the streams' `counted`.
        """

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Quantities that evaluation averages over all losses of a split that count, each (T, B)."""

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics of a split, from the means of its measures."""


@runtime_checkable
class Predicting(Protocol):
    """A task whose predictions are stored in predictions.parquet."""

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Predicted and true numbers, each (T, B), by quantity: `symbol`, `event`, `interval`, `value`, or a new one.

        Symbols and events are numbered from 0.
        """


@runtime_checkable
class Changing(Protocol):
    """A task with another training stream in each pass; `train` is that of the first, later of the pass in progress."""

    def train_pass(self, number: int) -> Stream:
        """The stream of a pass, numbered from 0: of the shape and types of `train`, the same whenever it is asked for.

        The global random generators are seeded by `seed` and the number before.
        """


class SymbolTask:
    """A task whose targets are symbols: cross entropy, and perplexity exp(mean loss)."""

    metric_names: tuple[str, ...] = ("ppl", "loss")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets)

    def measures(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": self.loss(outputs, targets)}

    def metrics(self, means: dict[str, float]) -> dict[str, float]:
        loss = means["loss"]
        return {"loss": loss, "ppl": math.exp(loss) if loss < 700 else math.inf}

    def predictions(self, outputs: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """`symbol`: the likeliest one."""
        return {"symbol": (outputs.argmax(dim=-1), targets)}


def cut(parts: Sequence[np.ndarray], batch_size: int, of: str, hint: str = "") -> list[np.ndarray]:
    """`batchify` of each array (N, ...); a `ConfigError` about `of` (`6 steps of the test arrays`) if N < 2 B."""
    rule = f"is too large for the {of}: at least 2 steps a stream{hint}"
    require(2 * batch_size <= len(parts[0]), "batch_size", batch_size, rule)
    return [batchify(part, batch_size) for part in parts]


def cut_note(split: str, what: str, steps: int, batch_size: int) -> str:
    length, rest = divmod(steps, batch_size)
    dropped = f"the last {rest} dropped" if rest else "none dropped"
    return f"{split}: {steps:,} {what} in {batch_size} streams of {length:,} steps, {dropped}"


def generated(
    name: str,
    task: Any,
    make: Callable[[int, int, np.random.Generator], Stream],
    *,
    shortest: int = 2,
    kept: int,
    making: int,
) -> list[Stream]:
    """The train, valid and test stream, each `make(T, B, generator)` with a random generator of its own.

    Arguments:
        task: has the steps of each split, the batch size and the seed.
        shortest: the least T that shows it.
        kept: bytes of a step of a stream, by which too large streams are refused.
        making: more bytes of it, while its split is made.
    """
    steps = {split: getattr(task, f"{split}_steps") for split in SPLITS}
    for split, length in steps.items():
        require(length >= shortest, f"{split}_steps", length, f"must be at least {shortest}")
    require(task.batch_size >= 1, "batch_size", task.batch_size, "must be at least 1")
    longest = max(steps, key=lambda split: steps[split])
    needed = task.batch_size * (kept * sum(steps.values()) + making * steps[longest])
    what = f"of {as_size(kept * task.batch_size)} each, with batch_size (={task.batch_size}),"
    require_memory(f"{longest}_steps", steps[longest], needed, what)
    return [
        make(length, task.batch_size, numpy_generator(f"{name} {split}", task.seed)) for split, length in steps.items()
    ]


def symbol_stream(inputs: np.ndarray, targets: np.ndarray) -> Stream:
    """A stream from two (T, B) integer arrays, of any size and byte order."""
    return Stream(torch.from_numpy(inputs.astype(np.int64)), torch.from_numpy(targets.astype(np.int64)))
