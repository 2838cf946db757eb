"""Isolation: a broken collector costs its own series and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

from exporter.collector import Collectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Working:
    """Tells one fact."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield it."""
        yield GaugeMetricFamily("fine", "Fine.", 1.0)


class Broken:
    """Tells half of what it knows, then breaks."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield a family, then raise."""
        yield GaugeMetricFamily("half", "Half.", 1.0)
        raise RuntimeError("secret text of an exception")


def scrape(collectors: Collectors) -> str:
    """Return the exposition of these collectors."""
    registry = CollectorRegistry()
    registry.register(collectors)
    return generate_latest(registry).decode()


def test_a_broken_collector_lowers_its_success_and_the_scrape_answers() -> None:
    """An exporter that fails a scrape because of one sensor hides all the others, just when they matter."""
    text = scrape(Collectors({"broken": Broken(), "working": Working()}))
    assert 'hop2rag_exporter_collector_success{collector="broken"} 0.0' in text
    assert 'hop2rag_exporter_collector_success{collector="working"} 1.0' in text
    assert 'hop2rag_exporter_collector_duration_seconds{collector="broken"}' in text
    assert "fine 1.0" in text


def test_half_an_answer_is_not_served() -> None:
    """Series that come and go with an exception's position would look like data."""
    text = scrape(Collectors({"broken": Broken()}))
    assert "half" not in text
    assert "secret" not in text


def test_a_failure_is_logged_once_until_it_is_mended(caplog: pytest.LogCaptureFixture) -> None:
    """A scrape a second for a weekend must not write 200,000 tracebacks."""
    collectors = Collectors({"broken": Broken()})
    for _ in range(3):
        scrape(collectors)
    assert len(caplog.records) == 1
    collectors._failing.clear()
    scrape(collectors)
    assert len(caplog.records) == 2
