"""A user's files next to a stranger's folder: whatever is opened, they stay as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "precious"


def untouched(home: Path) -> bool:
    """Return whether the user's files are as they were."""
    mine = sorted(str(path.relative_to(home / "mine")) for path in (home / "mine").rglob("*"))
    return mine == ["canary"] and (home / "mine" / "canary").read_text() == CANARY
