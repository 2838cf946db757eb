"""Text of unknown origin, before it is shown to somebody: words, and nothing that a terminal obeys."""

from __future__ import annotations

UNPRINTABLE = "?"


def plain(text: str) -> str:
    """Return a text without control characters, marks that turn its direction, and halves of characters.

    Line breaks and tabs stay; any other white space becomes a blank.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else " " if letter.isspace() else UNPRINTABLE
        for letter in text
    )
