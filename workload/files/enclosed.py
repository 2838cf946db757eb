"""Folders that a stranger may have packed: no link may lead out, and no file is read without a limit."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

from workload.errors import StorageError, UsageError
from workload.paths import inside

if TYPE_CHECKING:
    import re
    from pathlib import Path

MAX_ENTRIES = 100_000
# Our largest manifest, of a comparison with thousands of windows, has a few megabytes.
MAX_TEXT_BYTES = 32 * 2**20


def run_folder(results: Path, run: str) -> Path:
    """Return the folder of a run, which may not exist yet, after checking that all of it is below `results`.

    Raises:
        UsageError: the name is not plain, or `refuse_ways_out` refuses the folder.
        StorageError: the folder cannot be read.
    """
    folder = inside(results / "runs", run, "The run's name")
    refuse_ways_out(folder)
    return folder


def refuse_ways_out(folder: Path, names: re.Pattern[str] | None = None) -> None:
    """Refuse a folder with anything but plain files and folders: a link or a device would act elsewhere.

    Args:
        folder: the folder to check; it may itself be a link, which its user made.
        names: check only these of its direct entries; the others are never opened.

    Raises:
        UsageError: there is a link, a pipe, a socket or a device below it, or there are too many entries.
        StorageError: a folder cannot be read.
    """
    left, seen = [str(folder)], 0
    while left:
        try:
            here = left.pop()
            with os.scandir(here) as entries:
                for entry in entries:
                    if names and here == str(folder) and not names.fullmatch(entry.name):
                        continue
                    seen += 1
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        what = "a link" if entry.is_symlink() else "not a plain file"
                        raise UsageError(f"{entry.path} is {what}; it may lead out of {folder}.", "Remove it first.")
        except (FileNotFoundError, NotADirectoryError):
            continue  # not begun yet, or removed meanwhile: its reader or writer reports that
        except OSError as error:
            raise StorageError(f"{folder} cannot be read: {error.strerror}.", "Check its permissions.") from error
        if seen > MAX_ENTRIES:
            raise UsageError(f"{folder} has more than {MAX_ENTRIES} files.", "No run has that many: remove it.")


def text_of(path: Path, most: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a plain file of at most `most` bytes, without ever blocking.

    Raises:
        OSError: the file does not exist, is a link, or cannot be read.
        ValueError: it is not a plain file, is larger, or is not UTF-8.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is not a plain file")
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than {most // 2**20} MiB")
    return content.decode("utf-8")


def json_of(path: Path) -> Any:
    """Return the content of a JSON file; raises as `text_of`.

    Raises:
        ValueError: also if it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text_of(path))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
