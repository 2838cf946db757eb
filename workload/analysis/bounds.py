"""Numbers for JSON, which knows no infinity: None stands for "no bound"."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any


def bounded(value: float | Sequence[float]) -> Any:
    """Return a number, or an interval, without infinities."""
    if isinstance(value, Sequence):
        return [bounded(part) for part in value]
    return value if isfinite(value) else None
