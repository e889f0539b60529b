"""A call in a process of its own, which our settings of torch and memory reach only where that is wanted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from atbptt.training import configure_torch
from benchmarks.memory import peak_growth


class Aside:
    """A call that another process makes; it takes a tenth of a millisecond more than the call itself."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __call__(self) -> None:
        """Make the call, and wait for it."""
        self._ask("call")

    def peak_growth(self) -> int | None:
        """Make the call; its memory, as `memory.peak_growth` says."""
        return self._ask("memory")

    def _ask(self, what: str) -> int | None:
        try:
            self.connection.send(what)
            answer: int | None = self.connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a process of its own has ended; what it said on stderr tells why") from error
        return answer


def as_it_comes() -> None:
    """torch as it comes, but for one thread and subnormal numbers flushed."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def as_ours() -> None:
    """As in a run of ours: the C library keeps freed memory, besides."""
    configure_torch(threads=1)


@contextmanager
def aside(
    make: Callable[[], Callable[[], object]], device: torch.device, configure: Callable[[], None] = as_it_comes
) -> Iterator[Aside]:
    """Within, a process that can make a call.

    Arguments:
        make: makes the call, in that process; it has been called once when this returns.
        configure: sets up torch there, before.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, device, configure, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its end is noticed here
    try:
        asked = Aside(ours)
        asked()
        yield asked
    finally:
        ours.close()
        process.join()


def _serve(
    make: Callable[[], Callable[[], object]],
    device: torch.device,
    configure: Callable[[], None],
    connection: Connection,
) -> None:
    configure()
    call = make()
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return
        if what == "memory":
            connection.send(peak_growth(call, device))
        else:
            call()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            connection.send(None)
