"""Data sets: one file a task, each with its streams, loss and metrics."""

from atbptt.datasets.arrays import Arrays
from atbptt.datasets.copy import Copy
from atbptt.datasets.events import Events, EventStream
from atbptt.datasets.linear import Linear
from atbptt.datasets.repeat import Repeat
from atbptt.datasets.task import SymbolTask, Task
from atbptt.datasets.text import Text
from atbptt.windows import Stream

__all__ = ["Arrays", "Copy", "EventStream", "Events", "Linear", "Repeat", "Stream", "SymbolTask", "Task", "Text"]
