"""Files that a user names, read within bounds."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from exporter.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

MAX_CONFIG_BYTES = 1024 * 1024


def check_file(path: Path, remedy: str, most_bytes: int | None = MAX_CONFIG_BYTES) -> None:
    """Refuse what is no plain file: opening a FIFO waits for whoever writes to it, and a device has no end.

    Args:
        path: the file.
        remedy: what the user should do.
        most_bytes: the largest size that makes sense, None for any.

    Raises:
        UsageError: the file is missing, no file, or too large.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "its name cannot be one"
        raise UsageError(f"{path} cannot be read: {reason}.", remedy) from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{path} is not a file.", remedy)
    if most_bytes is not None and found.st_size > most_bytes:
        raise UsageError(f"{path} has {found.st_size} bytes; at most {most_bytes} make sense.", remedy)
