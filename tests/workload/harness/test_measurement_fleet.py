"""Exact counters of several servers in one window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workload.harness.measurement import Measurement
from workload.promql.vllm_metrics import COUNTERS, HITS, QUERIES
from workload.record.window import Window
from workload.services.prometheus import CounterResetError, NoDataError
from workload.services.targets import ArmLabels

WINDOW = Window(arm="a", block=0, point="c1", segment=0, start=1.0, end=2.0)


class Client:
    """Knows the increases of some counters by server; `broken` has a server whose counters fell."""

    def __init__(self, found: dict[tuple[str, str], float], broken: str = "") -> None:
        self.found, self.broken = found, broken

    def counter_delta(self, query: str, start: float, end: float) -> float:
        """Return an increase, as the client of Prometheus does."""
        if self.broken and self.broken in query:
            raise CounterResetError("fell", "", 1)
        for (metric, server), value in self.found.items():
            if query.startswith(metric + "{") and server in query:
                return value
        raise NoDataError(query, (start, end))


def counters(client: Client) -> tuple[dict[str, float | None], dict[str, int]]:
    """Return what a measurement of two servers finds."""
    part: dict[str, Any] = {"client": client, "labels": ArmLabels("r", "e", "a"), "scraped": {"vllm": ["e0:1", "e1:2"]}}
    others = dict.fromkeys(("engine", "under_test", "targets", "block", "cache", "history", "bundle", "progress"))
    measurement = Measurement(**{**others, **part, "engine": SimpleNamespace()})
    return measurement._counters(WINDOW)


def test_the_servers_of_a_fleet_add_up_and_a_half_known_sum_is_absent() -> None:
    """A sum over the servers that answered would look like a fleet with fewer tokens."""
    found, resets = counters(Client({(QUERIES, "e0:1"): 7, (QUERIES, "e1:2"): 5, (HITS, "e0:1"): 3}))
    assert found[QUERIES] == 12
    assert found[HITS] is None
    assert resets == {}


@pytest.mark.parametrize("server", ["e0:1", "e1:2"])
def test_one_server_that_restarted_makes_all_counters_unknown(server: str) -> None:
    """Its counts before the restart are lost."""
    known = {(metric, each): 1.0 for metric in COUNTERS for each in ("e0:1", "e1:2")}
    found, resets = counters(Client(known, broken=server))
    assert set(found.values()) == {None}
    assert set(resets) == set(COUNTERS)
