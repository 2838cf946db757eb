"""A level is joined from the journal and from Prometheus: each part must come from its own windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.stubs.load import BLOCK_BYTES, QUESTION_SECONDS, START, Rows, run_of
from workload.analysis.levels_observed import measured_level
from workload.promql.concurrency import PREEMPTIONS, WAITING_CALLS
from workload.services.prometheus import Series

if TYPE_CHECKING:
    from pathlib import Path

    from workload.record.results import RunData


def run(folder: Path, **series: Series) -> RunData:
    """Return a run of two questions, one after the other, of whose prompts half was cached."""
    rows = Rows()
    rows.ask()
    rows.ask(start=rows.end)
    for call in rows.calls:
        call["cached_tokens"] = call["prompt_tokens"] // 2
    return run_of(rows, folder, series={name.replace("__", ":"): found for name, found in series.items()})


def test_a_level_joins_the_journal_and_prometheus(tmp_path: Path) -> None:
    """The latency comes from the questions, the cached share from the calls, the peaks from the engine's gauges."""
    row, full = measured_level(run(tmp_path), "base", "c1")
    assert (row["loop"], row["concurrency"], row["rate"], row["efficiency"]) == ("closed", 1, None, None)
    assert full is not None
    assert row["throughput"]["per_second"] == pytest.approx(1 / QUESTION_SECONDS)
    assert row["latency_seconds"][0]["value"] == pytest.approx(QUESTION_SECONDS)
    assert row["cached_share"] == 0.5
    # 119 of a call's 120 tokens take 4 blocks of 32
    assert (row["engine"]["running_peak"], row["engine"]["kv_bytes_peak"]) == (1, pytest.approx(4 * BLOCK_BYTES))
    assert row["engine"]["kv_usage_peak"] == pytest.approx(0.04)


def test_a_gauge_without_samples_is_unknown(tmp_path: Path) -> None:
    """A queue that was never scraped is not an empty queue."""
    engine = measured_level(run(tmp_path), "base", "c1")[0]["engine"]
    assert (engine["waiting_peak"], engine["waiting_mean"], engine["device_bytes_peak"]) == (None, None, None)


def test_peaks_are_the_highest_of_all_windows_and_preemptions_their_sum(tmp_path: Path) -> None:
    """A level that was interrupted has two windows; its queue peaked in one of them only."""
    times = START + np.array([0.0, 1.0, 8.0, 9.0])
    data = run(tmp_path, **{WAITING_CALLS.replace(":", "__"): Series({}, times, np.array([3.0, 3.0, 1.0, 1.0]))})
    (first,) = data.measured
    early = replace(first, window=replace(first.window, end=START + 5), counters={PREEMPTIONS: 2.0})
    late = replace(first, window=replace(first.window, start=START + 5, segment=1), counters={PREEMPTIONS: 3.0})
    engine = measured_level(replace(data, measured=[early, late]), "base", "c1")[0]["engine"]
    assert (engine["waiting_peak"], engine["waiting_mean"], engine["preemptions"]) == (3.0, 3.0, 5.0)
    unknown = replace(late, counters={})
    engine = measured_level(replace(data, measured=[early, unknown]), "base", "c1")[0]["engine"]
    assert engine["preemptions"] is None


def test_without_prometheus_only_the_journal_counts(tmp_path: Path) -> None:
    """A journal alone still has latencies, and must not invent an engine that did nothing."""
    row, _ = measured_level(replace(run(tmp_path), evidence=None), "base", "c1")
    assert set(row["engine"].values()) == {None}
    assert row["latency_seconds"][0]["n"] == 2


def test_an_open_loop_has_a_rate_and_no_concurrency(tmp_path: Path) -> None:
    """Its name says how many questions are sent per second, and no law of concurrency applies to it."""
    data = run(tmp_path)
    opened = [{**row, "phase": "r0.5"} for row in data.questions]
    row, full = measured_level(replace(data, questions=opened, measured=[]), "base", "r0.5")
    assert (row["loop"], row["concurrency"], row["rate"], full) == ("open", None, 0.5, None)
