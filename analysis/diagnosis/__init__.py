"""How far back the gradients of a trained model reach: `python -m analysis probe RUN`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .command import probe as probe
else:
    from atbptt.lazy import exports

    __all__, __getattr__, __dir__ = exports(__name__)
