"""Checks a file that the user names before it is opened."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from exporter.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONFIG_BYTES = 1024 * 1024


def check_file(path: Path, remedy: str, most_bytes: int | None = MAX_CONFIG_BYTES) -> None:
    """Refuse anything but a plain file: opening a FIFO blocks until something writes to it, and a device has no end.

    `remedy` ends the message; `most_bytes` is the largest size allowed, None for any.

    Raises:
        UsageError: the file is missing, not a plain file, or too large.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise UsageError(f"{path} cannot be read: {reason}.", remedy) from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is not a file.", remedy)
    if most_bytes is not None and found.st_size > most_bytes:
        raise UsageError(f"{path} has {found.st_size} bytes; the limit is {most_bytes}.", remedy)
