"""Makes text of unknown origin safe to show: printable characters only, nothing that a terminal obeys."""

from __future__ import annotations

UNPRINTABLE = "?"


def plain(text: str) -> str:
    """Return a text without control characters, direction marks and lone surrogates.

    Line breaks and tabs stay; any other white space becomes a space.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else " " if letter.isspace() else UNPRINTABLE
        for letter in text
    )
