"""Closed label sets: whatever callers pass, the number of series stays bounded."""

from __future__ import annotations

import re

OTHER = "other"
_PLAIN = re.compile(r"[A-Za-z0-9._:+-]{1,64}")


class LabelSet:
    """Admits the first `limit` distinct plain values; every other value becomes "other".

    Plain means 1 to 64 ASCII letters, digits, dots, dashes, underscores, colons or plus signs: no prompt, path or
    megabyte of text can become a label. `known` values are admitted from the start and count towards the limit.
    """

    def __init__(self, limit: int, known: tuple[str, ...] = ()) -> None:
        self._limit = limit
        self._admitted = set(known)

    def admit(self, value: str) -> str:
        """Return `value` if it belongs to the set or still fits, else "other"."""
        if value in self._admitted:
            return value
        if len(self._admitted) >= self._limit or not _PLAIN.fullmatch(value):
            return OTHER
        self._admitted.add(value)
        return value
