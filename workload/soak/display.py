"""The status line of a soak, from the last minute of its journal; on a terminal it stays in place."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from workload.analysis.wording import given, percent
from workload.soak.record import RowRange, SoakRecord
from workload.statistics.percentiles import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console


RECENT_SECONDS, LONGEST_SECONDS = 60.0, 600.0
LOG_SECONDS = 60.0


@contextmanager
def soak_progress(console: Console) -> Iterator[Progress]:
    """Show a short bar over the whole duration, followed by the status line."""
    columns = (TimeElapsedColumn(), BarColumn(bar_width=10), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console) as progress:
        yield progress


class RecentFigures:
    """Figures of the last minute, read from the journal; a question in it may have taken up to ten."""

    def __init__(self, record: SoakRecord) -> None:
        self._record = record
        self._marks: deque[tuple[float, Mapping[str, int]]] = deque()

    def read(self, now: float, last_ids: Mapping[str, int]) -> dict[str, Any]:
        """Return `rate` (questions answered per second), `p50` and `p95` (seconds) and `hit_rate` of the last minute.

        `now` is in seconds since the epoch; `last_ids` are the journal's last row ids at that instant.
        """
        self._marks.append((now, last_ids))
        while len(self._marks) > 1 and self._marks[1][0] <= now - LONGEST_SECONDS:
            self._marks.popleft()
        since, ids = self._marks[0]
        rows = RowRange(ids["question"] + 1, ids["llm_call"] + 1)
        recent = now - min(RECENT_SECONDS, now - since)
        seconds = self._record.latencies(rows, recent)[:, 1]
        tokens = self._record.tokens(rows, recent)
        prompt = float(tokens[:, 1].sum())
        return {
            "rate": len(seconds) / (now - recent) if now > recent else None,
            "p50": quantile(seconds, 0.5),
            "p95": quantile(seconds, 0.95),
            "hit_rate": float(tokens[:, 2].sum()) / prompt if prompt else None,
        }


def status_line(
    recent: Mapping[str, Any], failed: int, level: int, pauses: Sequence[str], alerts: Sequence[str]
) -> str:
    """Return the status line: rate, latency, hit rate, failures, level or pauses, firing alerts."""
    state = f"PAUSED by {', '.join(sorted(pauses))}" if pauses else f"{level} at once"
    return (
        f"{given(recent['rate'])} questions/s, p50 {given(recent['p50'])} s, p95 {given(recent['p95'])} s, "
        f"hits {'-' if recent['hit_rate'] is None else percent(recent['hit_rate'])}, {failed} failed, {state}, "
        f"alerts: {', '.join(sorted(set(alerts))) or 'none'}"
    )


class Display:
    """Shows the status line: in place on a terminal, otherwise once per minute."""

    def __init__(self, progress: Progress, duration_seconds: float, elapsed_seconds: float) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=duration_seconds, completed=round(elapsed_seconds))
        self._logged = elapsed_seconds

    def show(self, text: str, elapsed_seconds: float) -> None:
        """Show the line."""
        self._progress.update(self._task, description=text, completed=elapsed_seconds)
        is_due = elapsed_seconds - self._logged >= LOG_SECONDS
        if is_due and not self._progress.console.is_terminal:
            self.say(f"{elapsed_seconds:.0f} s: {text}")
            self._logged = elapsed_seconds

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
