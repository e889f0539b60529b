"""A call in a separate process, with or without our settings of torch and memory."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from atbptt.training import configure_torch
from benchmarks.memory import peak_growth


class Aside:
    """A call in another process; it takes a tenth of a millisecond longer than the call itself."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def __call__(self) -> None:
        """Make the call and wait for it."""
        self._ask("call")

    def peak_growth(self) -> int | None:
        """Make the call and return its memory, see `memory.peak_growth`."""
        return self._ask("memory")

    def _ask(self, what: str) -> int | None:
        try:
            self.connection.send(what)
            answer: int | None = self.connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("the process of a call has ended; see its stderr") from error
        return answer


def as_it_comes() -> None:
    """torch's defaults, except for one thread and flushed subnormal numbers."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def as_ours() -> None:
    """The settings of a run: the C library also keeps freed memory."""
    configure_torch(threads=1)


@contextmanager
def aside(
    make: Callable[[], Callable[[], object]], device: torch.device, configure: Callable[[], None] = as_it_comes
) -> Iterator[Aside]:
    """Provides a process that makes a call; the call has been made once at the start.

    Arguments:
        make: returns the call; it runs in the other process.
        device: of the call.
        configure: sets up torch in the other process.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(make, device, configure, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the other process is noticed
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
