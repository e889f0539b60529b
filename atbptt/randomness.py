"""One random stream per purpose, so that drawing for one never shifts another.

A stream is named by its purpose and numbers (`seed`, step, ...) and made anew from that name. Nothing has to be stored
to resume a run, and draws do not depend on what was drawn before.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(purpose: str, *numbers: int) -> int:
    """A 63-bit seed that depends on the purpose and on every number."""
    name = ":".join([purpose, *(str(int(n)) for n in numbers)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def torch_generator(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator for one purpose."""
    import torch

    return torch.Generator().manual_seed(derive_seed(purpose, *numbers))


def numpy_generator(purpose: str, *numbers: int) -> np.random.Generator:
    """A numpy generator for one purpose."""
    return np.random.default_rng(derive_seed(purpose, *numbers))


def seed_global(purpose: str, *numbers: int) -> None:
    """Seed the global generators of torch, which `nn.Module` initialisation and dropout draw from, Python and numpy.

    This package does not draw from the last two, but a user's model, data or policy may.
    """
    seed = derive_seed(purpose, *numbers)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002  (such code draws from the legacy one)
    if "torch" not in sys.modules:  # nothing can draw from it, and it takes seconds to import
        return
    import torch

    # torch.manual_seed formats a stack trace for each kind of device not in use: over 0.1 ms for every window.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


@contextmanager
def kept_generators() -> Iterator[None]:
    """Afterwards the global generators of torch, Python and numpy are what they were."""
    import torch

    own, numpy_own = random.getstate(), np.random.get_state()  # noqa: NPY002
    # A process that has not used CUDA must not begin to: those forked from it could not.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(own)
            np.random.set_state(numpy_own)  # noqa: NPY002
