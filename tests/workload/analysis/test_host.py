"""Other programs on the host: named where they took part of a full host, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from workload.analysis.host import crowded


@pytest.mark.parametrize(
    ("busy", "others", "says"),
    [
        (0.97, 0.42, "Other programs used 42.0% of the host's CPU while 97.0% of it was in use"),
        (0.97, 0.05, None),
        (0.6, 0.42, None),
        (0.97, None, None),
        (None, None, None),
    ],
    ids=["crowded", "full by itself", "room left", "engine of unknown process", "not known"],
)
def test_others_count_where_the_host_was_full(busy: Any, others: Any, says: str | None) -> None:
    """A program that uses idle cores slows nothing down, and a full host may be full of the run itself."""
    assert crowded([{"host_busy": busy, "host_others": others}]) == says


def test_the_worst_window_is_named_and_old_runs_have_none() -> None:
    """A run of an earlier release did not look; it must not be called quiet or busy."""
    rows = [{"host_busy": 0.95, "host_others": 0.2}, {"host_busy": 0.99, "host_others": 0.5}, {"sent": 3}]
    assert "50.0%" in str(crowded(rows))
    assert crowded([{"sent": 3}]) is None
