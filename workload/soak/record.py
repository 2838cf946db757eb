"""Reads the journal of a soak by ranges of rows, so that neither the run nor its report loads all questions."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workload.analysis.token_fates import TokenFates, token_fates
from workload.fleet.account import FATES
from workload.record.journal import opened, refuse_foreign_tables
from workload.statistics.percentiles import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

QUANTILES = (0.5, 0.95, 0.99)
METRICS = ("answer_em", "answer_f1", "facts_em", "facts_f1", "joint_f1")


@dataclass(frozen=True)
class RowRange:
    """Questions and calls from the first row ids up to, but without, the last ones; None means all that follow."""

    first_question: int
    first_call: int
    last_question: int | None = None
    last_call: int | None = None


@dataclass(frozen=True)
class ResumePoint:
    """Where an interrupted run resumes.

    Attributes:
        lap, index: the lap, and how many of its questions were sent.
        again: lap, question id and attempts so far of each question that was sent and never acknowledged.
        segments: how many segments were opened.
        open_segment: the segment that was never closed, and its last recorded instant; None if there is none.
    """

    lap: int
    index: int
    again: tuple[tuple[int, str, int], ...]
    segments: int
    open_segment: tuple[int, float] | None


class SoakRecord:
    """Reads a soak's journal, also while it is written. Each call opens and closes the file.

    Raises:
        UsageError: from each method: the journal is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[sqlite3.Row]:
        """Yield the rows of a query."""
        with opened(self._path, "Look at the run's folder.") as connection:
            refuse_foreign_tables(connection, self._path)
            # Rows are read once; SQLite's default cache of 2 MB would stay with each thread that ever reads.
            connection.execute("PRAGMA cache_size = -256")
            connection.row_factory = sqlite3.Row
            yield from connection.execute(query, parameters)

    def table(self, name: str, columns: str, order: str, group: str = "") -> list[dict[str, Any]] | None:
        """Return a whole small table, or its sums by groups; None if the journal has no table of that name."""
        if next(self.rows("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)), None) is None:
            return None
        by = f" GROUP BY {group}" if group else ""
        return [dict(row) for row in self.rows(f"SELECT {columns} FROM {name}{by} ORDER BY {order}")]  # noqa: S608

    def token_fates(self) -> TokenFates | None:
        """Return the fates of the prompt tokens of all calls; None if the journal has none."""
        sums = ", ".join(f"sum({name}) AS {name}" for name in (*FATES, "bound", "in_fleet", "on_engine"))
        groups = self.table("token_fate", f"count(*) AS calls, {sums}", "1", group="bound IS NULL")
        return token_fates({"fates": group} for group in groups or ())

    def paused_share(self) -> float | None:
        """Return the share of the samples, one every two seconds, in which the run was paused; None without samples."""
        samples = self.table("sample", "avg(is_held) AS share", "1")
        return samples[0]["share"] if samples else None

    def answered_share(self) -> float | None:
        """Return the share of the ended attempts that were answered; None if no attempt has ended."""
        (share,) = next(self.rows("SELECT avg(outcome = 'ok') FROM question WHERE outcome IN ('ok', 'failed')"))
        return None if share is None else float(share)

    def has_begun(self) -> bool:
        """Return whether any segment was opened."""
        return next(self.rows("SELECT 1 FROM segment LIMIT 1"), None) is not None

    def resume_point(self) -> ResumePoint:
        """Return where the run resumes."""
        (lap,) = next(self.rows("SELECT coalesce(max(block), 0) FROM question"))
        (index,) = next(self.rows("SELECT count(DISTINCT question_id) FROM question WHERE block = ?", (lap,)))
        again = self.rows(
            "SELECT block, question_id, max(attempt) FROM question GROUP BY block, question_id"
            " HAVING sum(coalesce(outcome, '') IN ('ok', 'failed')) = 0 ORDER BY min(id)"
        )
        (segments,) = next(self.rows("SELECT count(*) FROM segment"))
        dangling = next(
            self.rows(
                "SELECT id, max(started_at, coalesce((SELECT max(at) FROM sample WHERE segment = segment.id), 0))"
                " FROM segment WHERE ended_at IS NULL ORDER BY id DESC LIMIT 1"
            ),
            None,
        )
        return ResumePoint(lap, index, tuple(map(tuple, again)), segments, tuple(dangling) if dangling else None)

    def range_of(self, segment: int) -> RowRange:
        """Return the row range of a segment."""
        rows = list(
            self.rows("SELECT first_question, first_call FROM segment WHERE id >= ? ORDER BY id LIMIT 2", (segment,))
        )
        return RowRange(*rows[0], *(rows[1] if len(rows) > 1 else ()))

    def accounting(self, within: RowRange) -> dict[str, Any]:
        """Return the counts of the questions in a range by outcome; those without an outcome are `in_flight`."""
        outcomes: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        for row in self.rows(
            "SELECT outcome, reason, count(*) FROM question WHERE id >= ? AND (? IS NULL OR id < ?) GROUP BY 1, 2",
            (within.first_question, within.last_question, within.last_question),
        ):
            outcomes[row[0] or "in_flight"] += row[2]
            if row[0] == "failed":
                failed[row[1]] += row[2]
        return {
            "sent": outcomes.total(),
            "ok": outcomes["ok"],
            "failed": dict(failed),
            "cancelled": outcomes["cancelled"],
            "in_flight": outcomes["in_flight"],
        }

    def latencies(self, within: RowRange, ended_after: float = 0.0) -> NDArray[np.float64]:
        """Return start (seconds since the epoch) and duration in seconds of each answered question, shape (n, 2)."""
        rows = self.rows(
            "SELECT started_at, duration_seconds FROM question WHERE id >= ? AND (? IS NULL OR id < ?)"
            " AND outcome = 'ok' AND intended_at + duration_seconds > ?",
            (within.first_question, within.last_question, within.last_question, ended_after),
        )
        return np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 2)

    def tokens(self, within: RowRange, ended_after: float = 0.0) -> NDArray[np.float64]:
        """Return start, prompt tokens and cached tokens of each good call that reports both, shape (n, 3)."""
        rows = self.rows(
            "SELECT started_at, prompt_tokens, cached_tokens FROM llm_call WHERE id >= ? AND (? IS NULL OR id < ?)"
            " AND outcome = 'ok' AND cached_tokens IS NOT NULL AND started_at + duration_seconds > ?",
            (within.first_call, within.last_call, within.last_call, ended_after),
        )
        return np.array([tuple(row) for row in rows], dtype=np.float64).reshape(-1, 3)

    def quality(self) -> dict[str, float | int | None]:
        """Return the means of HotpotQA's metrics over the answered questions, and their number."""
        means = ", ".join(f"avg({name}) AS {name}" for name in METRICS)
        return dict(next(self.rows(f"SELECT count(*) AS questions, {means} FROM question WHERE outcome = 'ok'")))  # noqa: S608

    def summary(self, within: RowRange) -> dict[str, Any]:
        """Return a range's counts, latency quantiles in seconds, and share of prompt tokens from the cache."""
        seconds, tokens = self.latencies(within)[:, 1], self.tokens(within)
        prompt = float(tokens[:, 1].sum())
        names = [f"p{round(100 * q)}" for q in QUANTILES]
        values = [quantile(seconds, q) for q in QUANTILES]
        return {
            **self.accounting(within),
            "latency_seconds": dict(zip(names, values, strict=True)),
            "hit_rate": float(tokens[:, 2].sum()) / prompt if prompt else None,
        }
