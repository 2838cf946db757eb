"""Errors with a documented exit code: one line that names the cause and the remedy."""

from __future__ import annotations

from typing import ClassVar


class ActionableError(Exception):
    """A failure the user can act on; `exit_code` becomes the process's exit code.

    Cause and remedy may quote a server or a file, so their line breaks become spaces.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        self.cause, self.remedy = (" ".join(text.splitlines()) for text in (cause, remedy))
        super().__init__(f"{self.cause} {self.remedy}".strip())


class UsageError(ActionableError):
    """A flag or a configuration file is wrong (exit code 2)."""

    exit_code = 2


class MissingPartError(ActionableError):
    """A required part, such as a GPU, is missing (exit code 3)."""

    exit_code = 3


class StorageError(ActionableError):
    """The disk is full, read-only or not writable for us (exit code 5)."""

    exit_code = 5
