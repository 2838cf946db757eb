"""Atomic files: written next to their place, synced to the disk, then renamed."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from workload.errors import StorageError, UsageError

OWNER_ONLY, OWNERS_FOLDER = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents for the owner only, whatever the umask is.

    Raises:
        OSError: the folder cannot be made, or a file is in its place.
    """
    for missing in reversed([each for each in folder.parents if not each.exists()]):
        with suppress(FileExistsError):  # another process was faster
            missing.mkdir(mode=OWNERS_FOLDER)
    folder.mkdir(mode=OWNERS_FOLDER, exist_ok=True)


def write(path: Path, data: str | bytes, mode: int = OWNER_ONLY) -> Path:
    """Write a file with exactly this mode, whatever the umask is, and return its path; missing folders are made.

    A reader finds the earlier content or all of `data`, also after a crash or a power cut. The draft is a new file with
    an unpredictable name. A link at `path` is replaced and never followed.

    Raises:
        StorageError: the file could not be written; an earlier file is unchanged.
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
            draft.unlink(missing_ok=True)  # on a full disk the next attempt needs its space
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}.", "Free some space, then run again."
        ) from error
    return path


def lock_folder(folder: Path) -> int:
    """Lock a folder for this process; return a descriptor that releases the lock when closed or when we die.

    Raises:
        UsageError: another process has the lock.
        OSError: the folder does not exist or cannot be read.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UsageError(f"Another process is writing to {folder}.", "Wait for its end, or stop it.") from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Sync a rename to the disk: the name belongs to the folder, not to the file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
