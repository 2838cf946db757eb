"""What a soak shows of itself while it runs and when it has ended."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from workload.record.journal import Journal
from workload.soak.display import Display, RecentFigures, soak_progress, status_line
from workload.soak.record import SoakRecord
from workload.soak.summary import drift

if TYPE_CHECKING:
    from pathlib import Path

START = 1_000_000.0


def answered(journal: Journal, ended: float, seconds: float, cached: int | None = 50) -> None:
    """Write down a question with one call of 100 prompt tokens that ended at some second after the start."""
    number, call = journal.new_id("question"), journal.new_id("llm_call")
    begun = {"started_at": START + ended - seconds, "duration_seconds": seconds}
    place = {"arm": "a", "block": 0, "phase": "soak", "segment": 0, "worker": "0", "attempt": 1, "type": "bridge"}
    journal.insert(
        "question",
        {"id": number, "question_id": "q", "outcome": "ok", **place, **begun, "intended_at": begun["started_at"]},
    )
    tokens = {"prompt_tokens": 100, "cached_tokens": cached, "outcome": "ok", "node": "decide", "hop": 1}
    journal.insert("llm_call", {"id": call, "question": number, **tokens, **begun})


def test_the_last_minute_counts_what_ended_in_it(tmp_path: Path) -> None:
    """A question of two minutes that ends now was asked before any window of a minute."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, {}) as journal:
        recent = RecentFigures(SoakRecord(path))
        recent.read(START, journal.last_ids)
        answered(journal, 30, 1.0, cached=0)
        answered(journal, 290, 200.0)
        answered(journal, 299, 2.0)
        asyncio.run(journal.acknowledge())
        found = recent.read(START + 300, journal.last_ids)
    assert found == {"rate": pytest.approx(2 / 60), "p50": 101.0, "p95": None, "hit_rate": 0.5}


def test_what_is_not_known_is_not_zero(tmp_path: Path) -> None:
    """A server that reports no cached tokens has no hit rate; an idle minute has no latency."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, {}) as journal:
        recent = RecentFigures(SoakRecord(path))
        recent.read(START, journal.last_ids)
        answered(journal, 5, 1.0, cached=None)
        asyncio.run(journal.acknowledge())
        found = recent.read(START + 10, journal.last_ids)
        text = status_line(found, 0, 4, [], [])
        assert found["hit_rate"] is None
        assert "hits -" in text
        assert "p50 1 s" in text


def test_the_line_says_what_holds_the_run() -> None:
    """Whoever looks after an hour wants to know why nothing moves."""
    nothing = dict.fromkeys(("rate", "p50", "p95", "hit_rate"))
    text = status_line(nothing, 3, 4, ["heartbeat", "VllmDown"], ["VllmDown", "VllmDown"])
    assert "3 failed" in text
    assert "PAUSED by VllmDown, heartbeat" in text
    assert text.endswith("alerts: VllmDown")


def test_without_a_terminal_there_is_a_line_a_minute() -> None:
    """A log of eight hours with a line every two seconds is not read."""
    written = io.StringIO()
    with soak_progress(Console(file=written, width=200, force_terminal=False)) as progress:
        display = Display(progress, 28_800.0, 0.0)
        for second in range(0, 600, 2):
            display.show("fine", float(second))
    assert sum("s: fine" in row for row in written.getvalue().splitlines()) == 9


@pytest.mark.parametrize(
    ("ci", "level", "verdict"),
    [
        ((-0.1, 0.1), 10.0, "no drift is shown"),
        ((0.5, 1.5), 10.0, "it grows"),
        ((-1.5, -0.5), 10.0, "it falls"),
        ((0.5, 1.5), 1000.0, "it grows slightly"),
    ],
)
def test_a_drift_is_put_in_words(ci: tuple[float, float], level: float, verdict: str) -> None:
    """A sentence that claims more than its interval is worse than the number alone."""
    found = {"level": level, "slope_per_hour": sum(ci) / 2, "ci_per_hour": ci, "hours": 7.2}
    assert drift("Latency", "s", found).endswith(f": {verdict}.")
    assert drift("Latency", "s", None) == "Latency: too little was measured for a trend."
