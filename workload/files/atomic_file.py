"""Files that are whole or not there: written beside their place, forced to the disk, then renamed; by one process."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from workload.errors import StorageError, UsageError

OWNER_ONLY, OWNERS_FOLDER = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, for their owner only, whatever the umask is.

    Raises:
        OSError: it cannot be made, or a file is in its place.
    """
    for missing in reversed([each for each in folder.parents if not each.exists()]):
        with suppress(FileExistsError):  # another process was faster
            missing.mkdir(mode=OWNERS_FOLDER)
    folder.mkdir(mode=OWNERS_FOLDER, exist_ok=True)


def write(path: Path, data: str | bytes, mode: int = OWNER_ONLY) -> Path:
    """Write a file of exactly this mode, whatever the umask is, and return its path; missing folders are made.

    Whoever reads it finds what was there before or all of `data`, also after a crash or a power cut. The draft is a
    new file under a name that nobody knows: a link that somebody has laid is replaced and never followed.

    Raises:
        StorageError: it could not be written; what was there before is untouched.
    """
    try:
        make_folder(path.parent)
        descriptor, name = tempfile.mkstemp(".draft", f"{path.name}.", path.parent)
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, mode)
                stream.write(data.encode() if isinstance(data, str) else data)
                stream.flush()
                os.fsync(descriptor)
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)  # on a full disk it takes the space that the next attempt needs
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", "Free some space, then run again."
        ) from error
    return path


def lock_folder(folder: Path) -> int:
    """Take a folder for this process alone; return a descriptor, which gives it back when closed, or by our death.

    Raises:
        UsageError: another process has it.
        OSError: there is no such folder, or it cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"Another process is writing to {folder}.", "Wait for its end, or stop it.") from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk: the new name is an entry of the folder, not of the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
