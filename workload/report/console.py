"""Where the commands print: what is printed is data, whoever wrote it, and never markup or a terminal's command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from exporter.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class PlainConsole(Console):
    """A console to which a text is a text: no markup, no emoji codes, nothing highlighted, no control characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is written: our own styles and cursor movements, and plain text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


def say(console: Console, text: str, style: str = "", *, wraps: bool = True) -> None:
    """Print a text with any console as it stands; a path or a command that is to be copied is not wrapped."""
    console.print(Text(plain(text), style), soft_wrap=not wraps)
