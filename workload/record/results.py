"""The measurements of a run, as the analysis takes them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from workload.record import journal
from workload.record.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from workload.record.evidence import Evidence

Row = dict[str, Any]
WARM_UP = "warm-up"
PLACE = ("arm", "block", "phase", "segment")
INHERITED = ("question_id", "type", "worker", "is_windowed")
ENDED = frozenset({"ok", "failed"})
"""Outcomes of an acknowledged question. Any other attempt was interrupted, and the question is asked again."""


@dataclass(frozen=True)
class Measured:
    """One measured window: the engine's facts, and counters over the window.

    `counters` maps a metric name to its exact increase between the window's ends, or to None if the engine lacks the
    metric. `accounting` counts how the questions ended.
    """

    window: Window
    engine: Mapping[str, Any]
    counters: Mapping[str, float | None]
    accounting: Mapping[str, Any]

    @staticmethod
    def from_manifest(row: Mapping[str, Any]) -> Measured:
        """Return the window from its row in a manifest."""
        return Measured(Window(**row["window"]), row["engine"], row["counters"], row["accounting"])

    def as_dict(self) -> dict[str, Any]:
        """Return the values for a manifest."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RunData:
    """A run: its measured windows and the rows of its journal that count, see `read_run`.

    Each call, visit, stage and prefetch has its question's `arm`, `block`, `phase`, `segment`, `question_id` and
    `type`, and `is_windowed`: whether it is in a closed window, so that it can be compared with counters. A call has
    its row of `token_fate` as `fates`, and the microseconds between its chunks as `token_gaps`, 32-bit integers; None
    if there are none. `uncounted` are the calls of the warm-up and of interrupted attempts, which the engine may have
    counted. `evidence` has the other sources of the run; None if there is only the journal.
    """

    measured: Sequence[Measured]
    questions: Sequence[Row]
    calls: Sequence[Row]
    visits: Sequence[Row]
    stages: Sequence[Row]
    evidence: Evidence | None = None
    prefetches: Sequence[Row] = ()
    uncounted: Sequence[Row] = ()

    def at(self, point: str) -> RunData:
        """Return the data of one point of the load, with the evidence of the whole run."""

        def of(rows: Sequence[Row]) -> list[Row]:
            return [row for row in rows if row["phase"] == point]

        measured = [part for part in self.measured if part.window.point == point]
        return replace(
            self,
            measured=measured,
            questions=of(self.questions),
            calls=of(self.calls),
            visits=of(self.visits),
            stages=of(self.stages),
            prefetches=of(self.prefetches),
        )

    @property
    def points(self) -> list[str]:
        """The points of the load, in the order of measurement."""
        return list(dict.fromkeys(part.window.point for part in self.measured))

    def counter(self, arm: str, metric: str) -> float | None:
        """Return a counter's increase summed over an arm's windows; None if any window lacks it."""
        values = [part.counters.get(metric) for part in self.measured if part.window.arm == arm]
        return None if None in values or not values else float(sum(filter(None, values)))

    def calls_of(self, arm: str) -> list[Row]:
        """Return the successful calls of an arm."""
        return [call for call in self.calls if call["arm"] == arm and call["outcome"] == "ok"]

    def by_question(self, arm: str, value: Callable[[Row, list[Row]], float | None]) -> dict[str, float]:
        """Return a value for each answered question of an arm, averaged over its blocks.

        `value` takes a question and its calls; None leaves the question out.
        """
        calls = group(self.calls, "question")
        found: dict[str, list[float]] = defaultdict(list)
        for question in self.questions:
            if question["arm"] == arm and question["outcome"] == "ok":
                number = value(question, calls.get(question["id"], []))
                if number is not None:
                    found[question["question_id"]].append(number)
        return {key: fmean(values) for key, values in found.items()}


def read_run(path: Path, measured: Sequence[Measured], evidence: Evidence | None = None) -> RunData:
    """Return the data of a run from its journal and its measured windows: the only way from a journal to a figure.

    Only rows of measured questions that ended, answered or failed, count. The warm-up does not count, nor does an
    interrupted attempt: it was not acknowledged, and the question is asked again.

    Raises:
        UsageError: there is no journal at `path`.
    """
    closed = {(w.arm, w.block, w.point, w.segment) for w in (part.window for part in measured)}
    tables = journal.read_tables(
        path, ("question", "llm_call", "node_visit", "stage", "prefetch", "token_fate", "token_gap")
    )
    questions = {
        row["id"]: {**row, "is_windowed": tuple(row[name] for name in PLACE) in closed}
        for row in tables["question"]
        if row["phase"] != WARM_UP and row["outcome"] in ENDED
    }

    fates = {row["call"]: row for row in tables["token_fate"]}
    gaps = {row["call"]: row["microseconds"] for row in tables["token_gap"]}

    def joined(table: str) -> list[Row]:
        return [
            {**row, **{name: question[name] for name in (*PLACE, *INHERITED)}}
            for row in tables[table]
            if (question := questions.get(row["question"]))
        ]

    return RunData(
        measured=measured,
        questions=list(questions.values()),
        calls=[{**row, "fates": fates.get(row["id"]), "token_gaps": gaps.get(row["id"])} for row in joined("llm_call")],
        visits=joined("node_visit"),
        stages=joined("stage"),
        evidence=evidence,
        prefetches=joined("prefetch"),
        uncounted=[row for row in tables["llm_call"] if row["question"] not in questions],
    )


def group(rows: Iterable[Row], column: str) -> dict[Any, list[Row]]:
    """Return the rows by the value of a column."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return dict(groups)


def calls_with_usage(calls: Iterable[Row]) -> list[Row]:
    """Return the successful calls with the prompt and completion tokens of the server's usage."""
    ended_well = (row for row in calls if row["outcome"] == "ok")
    return [row for row in ended_well if None not in (row["prompt_tokens"], row["completion_tokens"])]


def overlaps(row: Row, start: float, end: float) -> bool:
    """Return whether a call overlaps the time between two instants."""
    return bool(row["started_at"] < end and row["started_at"] + row["duration_seconds"] > start)


def total(rows: Iterable[Row], column: str) -> int | None:
    """Return a column's sum; None if a row lacks the value, because unknown is not zero."""
    values = [row[column] for row in rows]
    return None if None in values else sum(values)


def evidence_of(data: RunData) -> Evidence:
    """Return the evidence of a run.

    Raises:
        ValueError: there is only the journal.
    """
    if data.evidence is None:
        raise ValueError("this run has only a journal")
    return data.evidence


@dataclass(frozen=True)
class Finished:
    """A finished run: its id, its summary, its pictures and its folder."""

    run_id: str
    summary: Mapping[str, Any]
    files: tuple[Path, ...]
    bundle: Path
