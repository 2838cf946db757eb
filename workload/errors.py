"""Errors with a documented exit code: one line for the user, naming the cause and the remedy."""

from __future__ import annotations

import json
from importlib.metadata import distribution

from exporter.errors import ActionableError

PROJECT = "hop2rag-observatory"


class Hop2RagError(ActionableError):
    """A failure of the workload that the user can act on; the README's table of exit codes lists `exit_code`."""


class UsageError(Hop2RagError):
    """A flag, setting or input file is wrong (exit code 2)."""

    exit_code = 2


class MissingPartError(Hop2RagError):
    """A required part is not installed: a binary, a model, a GPU (exit code 3)."""

    exit_code = 3


class MissingExtraError(MissingPartError):
    """A package is not installed because it belongs to an extra of ours; the remedy is the line that installs it."""

    def __init__(self, cause: str, extra: str) -> None:
        super().__init__(cause, f'Install it: pip install "{_requirement(extra)}"')


def _requirement(extra: str) -> str:
    """Return this project with an extra, from where it was installed: a wheel, a folder, a repository, an index."""
    origin = json.loads(distribution(PROJECT).read_text("direct_url.json") or "{}")
    scheme = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
    return f"{PROJECT}[{extra}]" + (f" @ {scheme}{origin['url']}" if origin else "")


class DependencyDownError(Hop2RagError):
    """vLLM, Prometheus or Chroma does not answer, or its answer cannot be used (exit code 4)."""

    exit_code = 4


class StorageError(Hop2RagError):
    """The disk is full, read-only, or not ours to write (exit code 5)."""

    exit_code = 5


class StoppedByAlertError(Hop2RagError):
    """An alert asked the run to stop (exit code 6)."""

    exit_code = 6
