"""A soak in figures: what became of its questions, what drifted, what the alerts made of it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.trends import SLIGHT_SHARE, median, share, trend
from workload.analysis.wording import number, percent
from workload.soak.record import Stretch

if TYPE_CHECKING:
    from workload.soak.record import SoakRecord

EVERYTHING = Stretch(0, 0)
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
    """Return the whole run, all its processes included, from its journal.

    Raises:
        AssertionError: the account does not add up; that is a bug, never a result.
    """
    segments = [dict(row) for row in record.rows(f"SELECT {SEGMENT_COLUMNS} FROM segment ORDER BY id")]  # noqa: S608
    actions = [dict(row) for row in record.rows(f"SELECT {ACTION_COLUMNS} FROM action ORDER BY at")]  # noqa: S608
    start, end = segments[0]["started_at"], segments[-1]["ended_at"]
    accounting = record.accounting(EVERYTHING)
    unsent = {name: sum(row[name] for row in segments) for name in ("dropped", "paused")}
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
        **{name: value for name, value in record.summary(EVERYTHING).items() if name not in accounting},
        "trends": {name: asdict(found) if found else None for name, found in _trends(record, start, end).items()},
        "actions": actions,
        "segments": [{**row, "summary": json.loads(row["summary"] or "null")} for row in segments],
    }


def _attempts(record: SoakRecord) -> dict[str, int]:
    """Return how many questions were asked twice or more, and how many acknowledged ends stand for one question."""
    (again,) = next(record.rows("SELECT count(*) FROM question WHERE attempt > 1"))
    (most,) = next(
        record.rows(
            "SELECT coalesce(max(n), 0)"
            " FROM (SELECT sum(outcome = 'ok') AS n FROM question GROUP BY block, question_id)"
        )
    )
    return {"further": again, "answers_per_question": most}


def _trends(record: SoakRecord, start: float, end: float) -> dict[str, Any]:
    latencies, tokens = record.latencies(EVERYTHING), record.tokens(EVERYTHING)
    samples = {
        name: np.array(
            [tuple(row) for row in record.rows(f"SELECT at, {name} FROM sample WHERE {name} IS NOT NULL")],  # noqa: S608
            dtype=np.float64,
        ).reshape(-1, 2)
        for name in ("runner_bytes", "engine_bytes")
    }
    return {
        "latency_seconds": trend(latencies[:, 0], latencies[:, 1], median, start, end),
        "hit_rate": trend(tokens[:, 0], tokens[:, 1:], share, start, end),
        "runner_mib": trend(samples["runner_bytes"][:, 0], samples["runner_bytes"][:, 1] / MIB, median, start, end),
        "engine_mib": trend(samples["engine_bytes"][:, 0], samples["engine_bytes"][:, 1] / MIB, median, start, end),
    }


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that a reader must know."""
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
    taken = Counter((row["action"], row["alert"], row["status"]) for row in summary["actions"])
    told = "; ".join(
        f"{count} x {action}{f' by {alert}' if alert else ''}{' (dry run: not done)' if status == 'dry run' else ''}"
        for (action, alert, status), count in taken.items()
    )
    sentences.append(f"Actions: {told}." if told else "Actions: none.")
    resets = summary.get("counter_resets")
    if resets is None:
        sentences.append("Counter resets of the engine: not known, Prometheus did not tell.")
    elif resets:
        times = "once" if resets == 1 else f"{resets} times"
        sentences.append(f"The engine's counters began again at 0 {times}: no rate is taken across a reset.")
    return sentences


def drift(title: str, unit: str, found: dict[str, Any] | None) -> str:
    """Return what a trend says, in a sentence."""
    if found is None:
        return f"{title}: too little was measured for a trend."
    low, high = found["ci_per_hour"]
    per_hour, write = (f" {unit} an hour", number) if unit else (" an hour", percent)
    change = found["slope_per_hour"] * found["hours"] / found["level"] if found["level"] else 0.0
    is_shown = low > 0 or high < 0
    if not is_shown:
        verdict = "no drift is shown"
    else:
        verdict = "it " + ("grows" if low > 0 else "falls") + (" slightly" if abs(change) < SLIGHT_SHARE else "")
    signed = [f"{'+' if value > 0 else ''}{write(value)}" for value in (found["slope_per_hour"], low, high)]
    level = f"{write(found['level'])}{f' {unit}' if unit else ''}"
    return f"{title}: {level} in the middle, {signed[0]}{per_hour} [{signed[1]}, {signed[2]}]: {verdict}."
