"""The settings with which an interrupted run goes on: its own, but what is started or opened is typed again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.record.manifest import readable
from workload.settings import OPENED, PLACES, Settings

if TYPE_CHECKING:
    from workload.record.manifest import Manifest


def settings_to_go_on(manifest: Manifest, now: Settings, run: str) -> Settings:
    """Return the settings of a run that is to go on.

    Where the services are may differ. What is started or opened (`workload.settings.OPENED`) is this command line's,
    and must be what the run was begun with: a run's folder may be a stranger's, and names no program and no file.

    Raises:
        UsageError: something else was started or opened, with the options that name it; or the manifest is damaged.
    """
    asked = now.model_dump(mode="json")
    began = {name: manifest.settings.get(name) or None for name in OPENED}
    differing = [name for name in OPENED if began[name] != (asked[name] or None)]
    if missing := [_option(name, began[name]) for name in differing if began[name] is not None]:
        raise UsageError(
            f"Run {run} was begun with other programs or files than this command line names.",
            f"If you trust them, name them again: {' '.join(missing)}",
        )
    if differing:
        names = ", ".join(_flag(name) for name in differing)
        raise UsageError(f"Run {run} was begun without {names}.", "Leave it out, and its environment variable too.")
    with readable(run):
        return Settings.model_validate(
            {**manifest.settings, **{name: getattr(now, name) for name in (*PLACES, *OPENED)}}
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, value: Any) -> str:
    """Return an option as it is typed in a shell."""
    words = shlex.join(map(str, value)) if isinstance(value, list) else str(value)
    return shlex.join([f"{_flag(name)}={words}"])
