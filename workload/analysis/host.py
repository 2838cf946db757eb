"""Whether other programs on the host had part in a measurement: a full host slows whatever is measured on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FULL, OTHERS = 0.9, 0.1
"""Of the host's CPU: from here on it is full, and other programs have a part in it."""


def crowded(accounting: Iterable[Mapping[str, Any]]) -> str | None:
    """Return, in words, the window in which other programs took most CPU of a full host; None without one."""
    busy = [
        (row["host_others"], row["host_busy"])
        for row in accounting
        if row.get("host_others") is not None and row["host_others"] > OTHERS and row["host_busy"] >= FULL
    ]
    if not busy:
        return None
    others, whole = max(busy)
    return f"Other programs used {percent(others)} of the host's CPU while {percent(whole)} of it was in use"
