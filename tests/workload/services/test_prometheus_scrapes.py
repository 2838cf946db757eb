"""Waiting for scrapes on a fake clock: the instant returned must be one by which every target was scraped anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError, Series
from workload.services.scrape_registration import wait_for_scrapes
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LABELS = ArmLabels("r", "e", "a")
TARGETS = {"vllm": ["h:1"], "workload": ["h:2"]}


class FakePrometheus:
    """Shows the samples of `up` that lie in the past of its clock, which `sleep` moves."""

    url = "http://fake"

    def __init__(self, scrapes: Mapping[tuple[str, str], Sequence[tuple[float, float]]]) -> None:
        self.scrapes = scrapes
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        """Pass time."""
        self.now += seconds

    def raw(self, selector: str, start: float, end: float) -> list[Series]:
        """Answer as the client does."""
        assert selector == 'up{arm="a",experiment="e",phase="measured",run="r"}'
        found = []
        for (job, instance), samples in self.scrapes.items():
            seen = np.array([s for s in samples if start <= s[0] <= min(end, self.now)]).reshape(-1, 2)
            if seen.size:
                found.append(Series({"job": job, "instance": instance}, seen[:, 0], seen[:, 1]))
        if not found:
            raise NoDataError(selector, (start, end))
        return found

    def scrape_errors(self) -> dict[tuple[str, str], str]:
        """Say why, for the message."""
        return {("workload", "h:2"): "connection refused"}


def wait(fake: FakePrometheus, after: float = 100.0, targets: Mapping[str, Sequence[str]] = TARGETS) -> float:
    """Wait on the fake's clock."""
    client = cast("PrometheusClient", fake)
    return wait_for_scrapes(client, LABELS, targets, after, timeout_s=5, clock=lambda: fake.now, sleep=fake.sleep)


def test_the_latest_of_the_first_scrapes_is_returned() -> None:
    """At any earlier instant one of the targets still shows what it had counted before."""
    scrapes = {
        ("vllm", "h:1"): [(99.9, 1), (100.9, 1), (101.9, 1)],
        ("workload", "h:2"): [(100.0, 1), (101.0, 0), (102.0, 1), (103.0, 1)],
    }
    assert wait(FakePrometheus(scrapes)) == 102.0


def test_other_jobs_are_not_waited_for() -> None:
    """The fast job may fail now and then; what must be exact names its own jobs."""
    scrapes = {("vllm", "h:1"): [(101.0, 1.0)], ("vllm-fast", "h:1"): [(101.0, 0.0)]}
    assert wait(FakePrometheus(scrapes), targets={"vllm": ["h:1"]}) == 101.0


def test_a_target_that_never_comes_is_named_with_its_reason() -> None:
    """The user must see which of the processes to look at."""
    with pytest.raises(PrometheusError, match=r"within 5 s: workload h:2 \(connection refused\)"):
        wait(FakePrometheus({("vllm", "h:1"): [(101.0, 1.0)]}))
    with pytest.raises(PrometheusError, match=r"vllm h:1 \(not scraped\)"):
        wait(FakePrometheus({}))
