"""Data sets: one file a task, each with its streams, loss and metrics."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atbptt.datasets.arrays import Arrays as Arrays
    from atbptt.datasets.copy import Copy as Copy, GrowingCopy as GrowingCopy
    from atbptt.datasets.events import Events as Events
    from atbptt.datasets.linear import Linear as Linear
    from atbptt.datasets.repeat import Repeat as Repeat
    from atbptt.datasets.task import (
        SPLITS as SPLITS,
        Changing as Changing,
        Predicting as Predicting,
        SymbolTask as SymbolTask,
        Task as Task,
    )
    from atbptt.datasets.text import Text as Text
    from atbptt.windows import Stream as Stream
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
