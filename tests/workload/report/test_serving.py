"""The figures that people compare, computed a second time from the raw rows by arithmetic that shares no code."""

from __future__ import annotations

import random
import sqlite3
from array import array
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from workload.analysis.serving import serving
from workload.record.journal import Journal
from workload.record.results import Measured, read_run
from workload.record.window import Window
from workload.report.serving import csv_rows, tables

if TYPE_CHECKING:
    from pathlib import Path

SLO: Any = {"ttft": 0.3, "itl": 0.025, "question": 2.5}
Figure = tuple[str, str, str, str]


def record(path: Path) -> list[Measured]:
    """Write a journal of two arms at two loads in two blocks each: failures, refusals, single tokens, a warm-up."""
    draw = random.Random(20)
    windows = []
    with Journal(path, {}) as journal:
        for block, (arm, load) in enumerate([(arm, load) for arm in ("off", "on") for load in ("c1", "c4")] * 2):
            windows.append(Window(arm=arm, block=block, point=load, segment=0, start=0.0, end=1.0))
            for number in range(12):
                place = {"arm": arm, "block": block, "phase": load if number else "warm-up", "segment": 0}
                start, question = 1e9 + 100 * block + draw.uniform(0, 20), journal.new_id("question")
                row = {"id": question, **place, "question_id": f"q{number}", "type": "bridge", "attempt": 1}
                times = {"intended_at": start, "started_at": start + draw.uniform(0, 0.1)}
                ended = {"duration_seconds": draw.uniform(0.5, 3), "outcome": draw.choice(["ok"] * 5 + ["failed"])}
                journal.insert("question", {**row, "worker": "0", **times, **ended})
                for _ in range(draw.randint(1, 5)):
                    call(journal, question, start, draw)
    return [Measured(window, {}, {}, {}) for window in windows]


def call(journal: Journal, question: int, start: float, draw: random.Random) -> None:
    """Write a call: one in nine was refused, some have a single token."""
    number, chunks = journal.new_id("llm_call"), draw.randint(1, 30)
    row = {"id": number, "question": question, "node": "decide", "hop": 1, "started_at": start}
    if draw.random() < 1 / 9:
        journal.insert("llm_call", {**row, "duration_seconds": 0.01, "outcome": "failed", "reason": "overloaded"})
        return
    usage = {"prompt_tokens": draw.randint(50, 900), "completion_tokens": draw.randint(chunks, chunks + 3)}
    first = draw.uniform(0.05, 0.32)
    journal.insert("llm_call", {**row, "duration_seconds": 9.0, "ttft_seconds": first, "outcome": "ok", **usage})
    apart = array("I", (draw.randint(1, 40_000) for _ in range(chunks - 1)))
    journal.insert("token_gap", {"call": number, "microseconds": apart.tobytes()})


def quantile(values: list[Fraction], share: Fraction) -> Fraction | None:
    """Return a quantile between order statistics, None where less than one value lies beyond it."""
    if not values or (share != Fraction(1, 2) and len(values) * (1 - share) < 1):
        return None
    place = (len(values) - 1) * share
    low = int(place)
    ordered = sorted(values)
    following = ordered[min(low + 1, len(values) - 1)]
    return ordered[low] + (following - ordered[low]) * (place - low)


def mean(values: list[Fraction]) -> Fraction | None:
    """Return a mean."""
    return sum(values, Fraction()) / len(values) if values else None


def gaps_of(blob: bytes) -> list[Fraction]:
    """Return the seconds between a call's chunks."""
    return [Fraction(value, 10**6) for value in memoryview(blob).cast("I")]


def recomputed(path: Path, arm: str, load: str) -> dict[str, Fraction | None]:
    """Return the figures of a load straight from the rows of the SQLite file."""
    with closing(sqlite3.connect(path)) as rows:
        rows.row_factory = sqlite3.Row
        asked = rows.execute("SELECT * FROM question WHERE arm = ? AND phase = ?", (arm, load)).fetchall()
        calls = rows.execute(
            "SELECT c.*, g.microseconds FROM llm_call c JOIN question q ON q.id = c.question "
            "LEFT JOIN token_gap g ON g.call = c.id WHERE q.arm = ? AND q.phase = ?",
            (arm, load),
        ).fetchall()
    seconds = Fraction()
    for block in {row["block"] for row in asked}:
        mine = [row for row in asked if row["block"] == block]
        ends = [Fraction(row["intended_at"]) + Fraction(row["duration_seconds"]) for row in mine]
        seconds += max(ends) - min(Fraction(row["started_at"]) for row in mine)
    good = [one for one in calls if one["outcome"] == "ok"]
    answers = [Fraction(row["duration_seconds"]) for row in asked if row["outcome"] == "ok"]
    first = {one["id"]: Fraction(one["ttft_seconds"]) for one in good}
    gaps = {one["id"]: gaps_of(one["microseconds"]) for one in good}
    values = {
        "ttft": list(first.values()),
        "itl": [gap for each in gaps.values() for gap in each],
        "tpot": [sum(gaps[c["id"]]) / (c["completion_tokens"] - 1) for c in good if c["completion_tokens"] > 1],
        "e2e": [first[one] + sum(gaps[one]) for one in first],
        "question": answers,
    }
    bad = {one["question"] for one in calls if one["outcome"] != "ok"}
    bad |= {one["question"] for one in good if first[one["id"]] > Fraction(3, 10)}
    bad |= {one["question"] for one in good if (mean(gaps[one["id"]]) or 0) > Fraction(25, 1000)}
    met = sum(
        row["outcome"] == "ok" and row["duration_seconds"] <= SLO["question"] and row["id"] not in bad for row in asked
    )
    figures: dict[str, Fraction | None] = {
        "seconds/sum": seconds,
        "questions_per_second/rate": len(answers) / seconds,
        "requests_per_second/rate": len(good) / seconds,
        "input_tokens_per_second/rate": sum(one["prompt_tokens"] for one in good) / seconds,
        "output_tokens_per_second/rate": sum(one["completion_tokens"] for one in good) / seconds,
        "error_rate/share": Fraction(len(calls) - len(good), len(calls)),
        "goodput/share": Fraction(met, len(asked)),
        "goodput/per_second": met / seconds,
    }
    for name, found in values.items():
        figures[f"{name}_seconds/mean"] = mean(found)
        for percent in (50, 90, 99):
            figures[f"{name}_seconds/p{percent}"] = quantile(found, Fraction(percent, 100))
    return figures


def test_an_independent_computation_gives_the_same_digits(tmp_path: Path) -> None:
    """Two programs that agree on every digit agree on what is counted, over which time, by which quantile."""
    path = tmp_path / "journal.sqlite"
    rows = serving(read_run(path, record(path)), SLO)
    written: dict[tuple[str, str], dict[str, str]] = {}
    for arm, load, figure, statistic, _, value in csv_rows(rows):
        if statistic != "count":
            written.setdefault((arm, load), {})[f"{figure}/{statistic}"] = value
    assert len(written) == 4
    for (arm, load), found in written.items():
        again = recomputed(path, arm, load)
        assert found == {name: "" if value is None else f"{float(value):.7g}" for name, value in again.items()}
        assert 0 < float(found["goodput/share"]) < 1


def test_the_tables_show_each_load_and_leave_out_what_is_not_recorded(tmp_path: Path) -> None:
    """A row of dashes for a quantity that no journal of that release has would only be in the way."""
    path = tmp_path / "journal.sqlite"
    rows = serving(read_run(path, record(path)), {})
    (rate_columns, rates), (columns, latencies) = tables(rows)
    assert [row[0] for row in rates] == ["off, c1", "off, c4", "on, c1", "on, c4"]
    assert {row[-1] for row in rates} == {"not known"}
    assert len(latencies) == 4 * 5
    assert {len(row) for row in rates} == {len(rate_columns)}
    assert {len(row) for row in latencies} == {len(columns)}
    for row in rows:
        row["latency_seconds"]["itl"]["n"] = 0
    assert len(tables(rows)[1][1]) == 4 * 4
    assert tables([]) == []
