"""Errors with a documented exit code: one line for the user, naming the cause and the remedy."""

from __future__ import annotations

from exporter.errors import ActionableError


class Hop2RagError(ActionableError):
    """A failure of the workload that the user can act on; the README's table of exit codes lists `exit_code`."""


class UsageError(Hop2RagError):
    """A flag, setting or input file is wrong (exit code 2)."""

    exit_code = 2


class MissingPartError(Hop2RagError):
    """A required part is not installed: a binary, a model, a GPU (exit code 3)."""

    exit_code = 3


class DependencyDownError(Hop2RagError):
    """vLLM, Prometheus or Chroma does not answer, or its answer cannot be used (exit code 4)."""

    exit_code = 4


class StorageError(Hop2RagError):
    """The disk is full, read-only, or not ours to write (exit code 5)."""

    exit_code = 5


class StoppedByAlertError(Hop2RagError):
    """An alert asked the run to stop (exit code 6)."""

    exit_code = 6
