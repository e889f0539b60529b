"""What is printed: foreign text is shown, and nothing in it speaks to the terminal."""

from collections.abc import Iterable
from typing import Any, TextIO

from rich import console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from atbptt.errors import printable


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


def print_rendered(text: str) -> None:
    """Print what `rendered` returned, with its colours."""
    print(text, flush=True)


def rendered(console: Console, renderable: RenderableType) -> str:
    """What the console would print, without the blanks that fill a table's lines."""
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
