"""How a run is resumed: with the settings of its manifest, but with the engine, corpus and places named again."""

from __future__ import annotations

import shlex
from typing import Any

from workload.errors import UsageError
from workload.files.enclosed import run_folder
from workload.record.manifest import Manifest, manifest_in, readable
from workload.settings import NAMED_AGAIN, Settings

COMMANDS = ("ab", "optimize", "soak", "suite")
"""Experiments with a command of their own."""


def resume_settings(experiment: str, now: Settings, run: str) -> tuple[Settings, Manifest]:
    """Return the settings with which a run is resumed, and its manifest.

    Places may differ. Engine and corpus come from this command line and must be those that the run was begun with: a
    run's folder may come from a stranger, so no program and no file is opened because the folder names it.

    Raises:
        UsageError: there is no such run, it is of another experiment, its manifest is damaged, or it had another
            engine or corpus; the message says which options name them.
    """
    manifest = manifest_in(run_folder(now.places.results, run))
    if manifest.experiment != experiment:
        command = manifest.experiment if manifest.experiment in COMMANDS else f"run {manifest.experiment}"
        raise UsageError(
            f"Run {run} is of {manifest.experiment!r}, not of {experiment!r}.",
            f"Resume it by its own command: hop2rag {command} --resume {run}",
        )
    asked = now.flat(*NAMED_AGAIN)
    began = {name: manifest.settings.get(name) or None for name in asked}
    differing = [name for name in asked if began[name] != (asked[name] or None)]
    if missing := [_option(name, began[name]) for name in differing if began[name] is not None]:
        raise UsageError(
            f"Run {run} was begun with other programs or files than those on this command line.",
            f"If you trust them, name them again: {' '.join(missing)}",
        )
    if differing:
        names = ", ".join(_flag(name) for name in differing)
        raise UsageError(f"Run {run} was begun without {names}.", "Leave it out, and its environment variable too.")
    with readable(run):
        return Settings.of({**manifest.settings, **now.flat(*NAMED_AGAIN, "places")}), manifest


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, value: Any) -> str:
    """Return an option as it is typed in a shell."""
    words = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
    return shlex.join([f"{_flag(name)}={words}"])
