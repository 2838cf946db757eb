"""Explains from its log why an engine did not start: the cause in one line, the remedy, and the exit code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.errors import DependencyDownError, Hop2RagError, MissingPartError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Cause:
    """A known way to fail: a pattern in the log (the group `what` is quoted), and the error to raise."""

    pattern: str
    error: type[Hop2RagError]
    text: str
    remedy: str


FLAG = Cause(
    r"error: (?P<what>unrecognized arguments: .*|argument .*)$",
    UsageError,
    "vLLM refuses its flags",
    "They are for another version of vLLM: run `hop2rag engine install`, or name the version that runs.",
)
LENGTH = Cause(
    r"(?P<what>User-specified max_model_len \(\d+\) is greater than the derived max_model_len)",
    UsageError,
    "The model is too short for the profile",
    "Take a profile with a shorter --max-model-len, or another model.",
)
PORT = Cause(
    r"(?P<what>[Aa]ddress already in use)",
    UsageError,
    "The engine's port is taken",
    "Pick another port, or stop what uses it.",
)
MODEL = Cause(
    r"(?P<what>Repo id must be .*|\S+ does not appear to have a file named \S+|Cannot find any model weights .*)$",
    MissingPartError,
    "The model is missing or incomplete",
    "Run `hop2rag engine install`, or name the model's folder.",
)
ENVIRONMENT = Cause(
    r"(?P<what>No module named \S+|\S+: cannot open shared object file)",
    MissingPartError,
    "The engine's environment is incomplete",
    "Remove `engine` from the cache and run `hop2rag engine install`.",
)
MEMORY = Cause(
    r"(?P<what>(?:Available memory on node|Free memory on device) .* is less than .*?\)"
    r"|No available memory for the cache blocks|[Oo]ut of memory|Cannot allocate memory|MemoryError)",
    DependencyDownError,
    "The engine has too little memory",
    "Free some, or take a smaller model, context or KV pool.",
)
CAUSES = (FLAG, LENGTH, PORT, MODEL, ENVIRONMENT, MEMORY)

FIRST_ERROR = re.compile(r"^(?:\(.*?\] )?(?P<what>[\w.]+(?:Error|Exception): .*)$", re.MULTILINE)
"""The first error; later ones only report it, in this or another of the engine's processes."""


def explain_death(log: Path, exit_code: int) -> Hop2RagError:
    """Return the error for an engine that exited with `exit_code` before it was ready."""
    said = log.read_text(errors="replace")
    for cause in CAUSES:
        if match := re.search(cause.pattern, said, re.MULTILINE):
            return cause.error(f"{cause.text}: {match['what'].rstrip('. ')}.", f"{cause.remedy} Log: {log}")
    if match := FIRST_ERROR.search(said):
        reason = match["what"]
    else:
        reason = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it printed nothing")
    return DependencyDownError(
        f"The engine ended with exit code {exit_code} before it was ready: {reason}.", f"Log: {log}"
    )
