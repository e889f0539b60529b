"""What is printed: foreign text is shown, and nothing in it speaks to the terminal."""

from collections.abc import Iterable
from typing import Any, TextIO

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from atbptt.errors import printable
from atbptt.system.command_line import let_go


def print_text(*texts: object, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Print texts, a line each, with control characters as escapes (`printable`)."""
    print("\n".join(printable(str(text)) for text in texts), file=file, end=end, flush=flush)


class Console(console.Console):
    """Prints what it is given without markup, and control characters in it as escapes (`printable`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does, but for the control characters of texts."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


class Lasting:
    """A stream for text that takes all, even if nobody can read it: its pipe is closed, its disk full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            let_go(self._stream)
            return len(text)

    def flush(self) -> None:
        let_go(self._stream)


def print_rendered(text: str) -> None:
    """Print what `rendered` returned, with its colours."""
    print(text, flush=True)


def rendered(console: Console, renderable: RenderableType) -> str:
    """What the console would print, without the blanks that fill a table's lines."""
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
