"""Summarises a soak: how its questions ended, which quantities drifted, which actions the alerts caused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.wording import number, percent
from workload.promql.scrapes import good_scrapes, resets_of_engines
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError
from workload.soak.record import RowRange, SoakRecord
from workload.statistics.trends import SLIGHT_SHARE, Trend, median, share, trend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


EVERYTHING = RowRange(0, 0)
SEGMENT_COLUMNS = "id, started_at, ended_at, dropped, paused, summary"
ACTION_COLUMNS = "at, action, alert, status, detail"
MIB = 2**20
TRENDS = {
    "latency_seconds": ("Latency", "s"),
    "hit_rate": ("Hit rate of the prefix cache", ""),
    "runner_mib": ("Memory of the runner", "MiB"),
    "engine_mib": ("Memory of the engine", "MiB"),
}


def summarise(record: SoakRecord) -> dict[str, Any]:
    """Return the summary of the whole run, over all its processes, from its journal.

    Raises:
        AssertionError: the accounting does not add up; that is a bug, never a result.
    """
    segments = record.table("segment", SEGMENT_COLUMNS, "id")
    actions = record.table("action", ACTION_COLUMNS, "rowid")
    samples = record.table("sample", "at, runner_bytes, engine_bytes", "rowid")
    start, end = _span(segments or [], samples or [])
    accounting = record.accounting(EVERYTHING)
    unsent = {name: sum(row[name] for row in segments or ()) for name in ("dropped", "paused")}
    accounting = {"scheduled": accounting["sent"] + sum(unsent.values()), **accounting, **unsent}
    ended = accounting["ok"] + sum(accounting["failed"].values()) + accounting["cancelled"] + accounting["in_flight"]
    if accounting["sent"] != ended:
        raise AssertionError(f"accounting does not add up: {accounting}")
    return {
        "start": start,
        "end": end,
        "accounting": accounting,
        "attempts": _attempts(record),
        "quality": record.quality(),
        "token_fates": record.token_fates(),
        **{name: value for name, value in record.summary(EVERYTHING).items() if name not in accounting},
        "trends": {
            name: asdict(found) if found else None for name, found in _trends(record, samples or [], start, end).items()
        },
        "held_share": record.paused_share(),
        "actions": actions or [],
        "segments": [{**row, "summary": _summary(record, row)} for row in segments or ()],
        "not_recorded": [
            name for name, rows in (("segments", segments), ("actions", actions), ("samples", samples)) if rows is None
        ],
    }


def _span(segments: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the first and the last instant, even after an interruption or a clock that was set back."""
    known = [row[name] for row in segments for name in ("started_at", "ended_at") if row[name] is not None]
    instants = known or [row["at"] for row in samples] or [0.0]
    last = (
        max(instants)
        if segments and segments[-1]["ended_at"] is not None
        else max([*instants, *(row["at"] for row in samples)])
    )
    return min(instants), last


def _summary(record: SoakRecord, segment: dict[str, Any]) -> dict[str, Any]:
    """Return a segment's summary: the stored one, or one computed from its questions if its process died."""
    found = json.loads(segment["summary"] or "null")
    return found if isinstance(found, dict) else record.summary(record.range_of(segment["id"]))


def _attempts(record: SoakRecord) -> dict[str, int]:
    """Return how many attempts repeat a question, and the most acknowledged answers of one question."""
    (again,) = next(record.rows("SELECT count(*) FROM question WHERE attempt > 1"))
    (most,) = next(
        record.rows(
            "SELECT coalesce(max(n), 0)"
            " FROM (SELECT sum(outcome = 'ok') AS n FROM question GROUP BY block, question_id)"
        )
    )
    return {"further": again, "answers_per_question": most}


def _trends(record: SoakRecord, sampled: Sequence[dict[str, Any]], start: float, end: float) -> dict[str, Any]:
    latencies, tokens = record.latencies(EVERYTHING), record.tokens(EVERYTHING)

    def memory(column: str) -> Trend | None:
        known = [(row["at"], row[column] / MIB) for row in sampled if row[column] is not None]
        times, values = np.array(known, dtype=np.float64).reshape(-1, 2).T
        return trend(times, values, median, start, end)

    return {
        "latency_seconds": trend(latencies[:, 0], latencies[:, 1], median, start, end),
        "hit_rate": trend(tokens[:, 0], tokens[:, 1:], share, start, end),
        "runner_mib": memory("runner_bytes"),
        "engine_mib": memory("engine_bytes"),
    }


def verdicts(summary: Mapping[str, Any]) -> list[str]:
    """Return the report's verdicts, one sentence each."""
    account = summary["accounting"]
    failed = sum(account["failed"].values())
    hours = (summary["end"] - summary["start"]) / 3600
    sentences = [
        f"{summary['ending'].capitalize()} after {number(hours)} h: {account['ok']} answered, {failed} failed.",
        f"Account: {account['scheduled']} scheduled = {account['sent']} sent + {account['dropped']} dropped + "
        f"{account['paused']} paused; sent = {account['ok']} ok + {failed} failed + {account['cancelled']} cancelled"
        + (f" + {account['in_flight']} without an end" if account["in_flight"] else "")
        + f". {summary['attempts']['further']} were further attempts.",
    ]
    sentences += [drift(title, unit, summary["trends"][name]) for name, (title, unit) in TRENDS.items()]
    paused, recorded = summary["held_share"], summary.get("recorded_share")
    if paused:
        sentences.append(f"Paused for {percent(paused)} of its time: nothing was sent meanwhile.")
    if recorded is not None and recorded < 1:
        sentences.append(f"Prometheus recorded {percent(recorded)} of its time.")
    if summary["not_recorded"]:
        sentences.append(f"Not recorded: {', '.join(summary['not_recorded'])}.")
    taken = Counter((row["action"], row["alert"], row["status"]) for row in summary["actions"])
    actions = "; ".join(
        f"{count} x {action}{f' by {alert}' if alert else ''}{' (dry run: not done)' if status == 'dry run' else ''}"
        for (action, alert, status), count in taken.items()
    )
    sentences.append(f"Actions: {actions}." if actions else "Actions: none.")
    resets = summary.get("counter_resets")
    if resets is None:
        sentences.append("Counter resets of the engine: unknown, because Prometheus did not answer.")
    elif resets:
        times = "once" if resets == 1 else f"{resets} times"
        sentences.append(f"The engine's counters began again at 0 {times}: no rate is taken across a reset.")
    return sentences


def drift(title: str, unit: str, found: dict[str, Any] | None) -> str:
    """Return the verdict on a trend, in one sentence."""
    if found is None:
        return f"{title}: too little was measured for a trend."
    low, high = found["ci_per_hour"]
    per_hour, write = (f" {unit} per hour", number) if unit else (" per hour", percent)
    change = found["slope_per_hour"] * found["hours"] / found["level"] if found["level"] else 0.0
    is_shown = low > 0 or high < 0
    if not is_shown:
        verdict = "no drift is shown"
    else:
        verdict = "it " + ("grows" if low > 0 else "falls") + (" slightly" if abs(change) < SLIGHT_SHARE else "")
    signed = [f"{'+' if value > 0 else ''}{write(value)}" for value in (found["slope_per_hour"], low, high)]
    level = f"{write(found['level'])}{f' {unit}' if unit else ''}"
    return f"{title}: {level} in the middle, {signed[0]}{per_hour} [{signed[1]}, {signed[2]}]: {verdict}."


JOBS = ("vllm", "workload")


SCRAPE_SECONDS = 1.0
"""The interval of both jobs in prometheus/prometheus.yml."""


def counter_resets(client: PrometheusClient | None, run: str) -> int | None:
    """Return the counter resets in the whole run, over all its processes; None if Prometheus does not answer."""
    if client is None:
        return None
    try:
        found = client.query(resets_of_engines(run))
    except PrometheusError:
        return None
    return round(sum(sample.value for sample in found))


def recorded_share(client: PrometheusClient | None, run: str, elapsed_seconds: float) -> float | None:
    """Return the share of a run's time in which both engine and runner were scraped; None if that is not known.

    While another process had its targets, or Prometheus was down, the run measured nothing.
    """
    if client is None or elapsed_seconds <= 0:
        return None
    shares = []
    for job in JOBS:
        try:
            good = client.query(good_scrapes(run, job))[0].value
        except NoDataError:
            good = 0.0
        except PrometheusError:
            return None
        shares.append(min(1.0, good * SCRAPE_SECONDS / elapsed_seconds))
    return min(shares)
