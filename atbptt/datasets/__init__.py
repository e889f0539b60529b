"""Data sets: one file a task, each with its streams, loss and metrics."""

from atbptt.datasets.arrays import Arrays
from atbptt.datasets.copy import Copy
from atbptt.datasets.linear import Linear
from atbptt.datasets.repeat import Repeat
from atbptt.datasets.task import Stream, SymbolTask, Task

__all__ = ["Arrays", "Copy", "Linear", "Repeat", "Stream", "SymbolTask", "Task"]
