"""A user's model that ends its process during training; for test_durability.py."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from torch import Tensor

from atbptt.models.networks import RecurrentNetwork
from atbptt.models.states import State

CALL = 85  # of the model in training, two per window: after the second checkpoint

ENDINGS = {
    "exit": lambda: sys.exit("no more"),
    "os_exit": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "native": lambda: ctypes.string_at(0),
    "memory": lambda: bytes(2**62),
}


class Fragile(RecurrentNetwork):
    """A network with dropout that ends its process in the fourth epoch, by `ending`: a key of `ENDINGS`, or `none`.

    Environment variables: FRAGILE_ENDING replaces an `ending` of none; the process does not end if the file
    FRAGILE_MENDED exists; each call in training takes FRAGILE_SECONDS longer.
    """

    def __init__(self, input_size: int, output_size: int, hidden: int = 6, ending: str = "none") -> None:
        super().__init__(input_size, output_size, hidden=hidden, dropout=0.2)
        self.ending = os.environ.get("FRAGILE_ENDING", "none") if ending == "none" else ending
        self.calls = 0

    def recur(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        if self.training:
            self.calls += 1
            time.sleep(float(os.environ.get("FRAGILE_SECONDS", "0")))
            mended = os.environ.get("FRAGILE_MENDED")
            if self.calls == CALL and self.ending in ENDINGS and not (mended and Path(mended).exists()):
                ENDINGS[self.ending]()
        return super().recur(inputs, state)
