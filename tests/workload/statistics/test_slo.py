"""Objectives as people type them: each by its name, none that cannot be met, none that is misspelt."""

from __future__ import annotations

import pytest

from workload.errors import UsageError
from workload.settings import Settings, load_settings

LOAD = {"limit": 1, "max_hops": 1, "k": 1}


def test_objectives_are_seconds_by_name() -> None:
    """They go into a manifest and come back as they were typed."""
    settings = load_settings({**LOAD, "slo": "ttft=0.5, itl=0.05,question=10"})
    assert settings.places.slo == {"ttft": 0.5, "itl": 0.05, "question": 10.0}
    assert Settings.of(settings.flat()) == settings


MISTYPED = ("ttf=0.5", "ttft", "ttft=", "ttft=0", "ttft=-1", "itl=inf", "itl=nan", "ttft=1;itl=2")


@pytest.mark.parametrize("typed", MISTYPED)
def test_what_is_no_objective_is_refused(typed: str) -> None:
    """A misspelt objective that counts as none would call every question good."""
    with pytest.raises(UsageError, match="--slo"):
        load_settings({**LOAD, "slo": typed})


def test_objectives_do_not_decide_what_is_measured() -> None:
    """A run may be resumed with others, or with none."""
    assert "slo" not in load_settings(LOAD).flat("load", "agent", "engine", "corpus")
