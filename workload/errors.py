"""Errors with a documented exit code: one line for the user, naming the cause and the remedy."""

from __future__ import annotations

from typing import ClassVar


class Hop2RagError(Exception):
    """A failure the user can act on. `exit_code` is the process's exit code; see docs/exit-codes in the README."""

    exit_code: ClassVar[int] = 1

    def __init__(self, cause: str, remedy: str = "") -> None:
        super().__init__(f"{cause} {remedy}".strip())
        self.cause = cause
        self.remedy = remedy


class UsageError(Hop2RagError):
    """A flag, setting or input file is wrong (exit code 2)."""

    exit_code = 2


class MissingPartError(Hop2RagError):
    """A required part is not installed: a binary, a model, a GPU (exit code 3)."""

    exit_code = 3


class DependencyDownError(Hop2RagError):
    """vLLM, Prometheus or Chroma does not answer, or answers what cannot be used (exit code 4)."""

    exit_code = 4


class StorageError(Hop2RagError):
    """The disk is full, read-only or not ours (exit code 5)."""

    exit_code = 5


class StoppedByAlertError(Hop2RagError):
    """An alert asked the run to stop (exit code 6)."""

    exit_code = 6
