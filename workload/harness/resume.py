"""The settings with which an interrupted run goes on: its own, but what is started or opened is typed again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.record.manifest import readable
from workload.settings import Settings

if TYPE_CHECKING:
    from workload.record.manifest import Manifest


def settings_to_go_on(manifest: Manifest, now: Settings, run: str) -> Settings:
    """Return the settings of a run that is to go on.

    Its places may differ. Its engine and its corpus come from this command line and must be those that the run was
    begun with: a run's folder may come from a stranger, so no program and no file is opened because it names one.

    Raises:
        UsageError: something else was started or opened, with the options that name it; or the manifest is damaged.
    """
    asked = now.flat("engine", "corpus")
    began = {name: manifest.settings.get(name) or None for name in asked}
    differing = [name for name in asked if began[name] != (asked[name] or None)]
    if missing := [_option(name, began[name]) for name in differing if began[name] is not None]:
        raise UsageError(
            f"Run {run} was begun with other programs or files than this command line names.",
            f"If you trust them, name them again: {' '.join(missing)}",
        )
    if differing:
        names = ", ".join(_flag(name) for name in differing)
        raise UsageError(f"Run {run} was begun without {names}.", "Leave it out, and its environment variable too.")
    with readable(run):
        return Settings.of({**manifest.settings, **now.flat("engine", "corpus", "places")})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, value: Any) -> str:
    """Return an option as it is typed in a shell."""
    words = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
    return shlex.join([f"{_flag(name)}={words}"])
