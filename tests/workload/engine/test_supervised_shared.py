"""An engine that is kept from one block to the next, and one that must not be."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from workload.engine.profile import PROFILES, VllmProfile
from workload.engine.supervised import SharedEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.engine.launcher import RunningEngine


class Counting:
    """A launcher that writes down what it starts and stops."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Start nothing."""
        self.log.append(f"start {profile.name}")
        yield cast("Any", SimpleNamespace(profile=profile.name))
        self.log.append(f"stop {profile.name}")


def test_the_same_flags_keep_the_engine() -> None:
    """A restart takes half a minute on CPU; under another name the same flags are the same engine."""
    launcher = Counting()
    with SharedEngine(launcher) as shared:
        for profile in (PROFILES["base"], VllmProfile("other name"), PROFILES["prefix-off"], PROFILES["base"]):
            with shared.start(profile):
                pass
    assert launcher.log == [
        *("start base", "stop base", "start prefix-off", "stop prefix-off", "start base", "stop base"),
    ]


def test_it_is_stopped_when_the_work_fails() -> None:
    """An engine left behind would occupy the port and the memory of the next run."""
    launcher = Counting()
    with pytest.raises(RuntimeError), SharedEngine(launcher) as shared, shared.start(PROFILES["base"]):
        raise RuntimeError
    assert launcher.log == ["start base", "stop base"]
