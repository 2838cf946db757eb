"""Where the commands print: printed text is data, never markup or a control sequence of the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from exporter.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable


class PlainConsole(Console):
    """A console that prints plain text: no markup, no emoji codes, no highlighting, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield our own styles and cursor movements, and plain text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def say(console: Console, text: str, style: str = "", *, wraps: bool = True) -> None:
    """Print plain text; `wraps=False` keeps a path or a command on one line, so that it can be copied."""
    console.print(Text(plain(text), style), soft_wrap=not wraps)
