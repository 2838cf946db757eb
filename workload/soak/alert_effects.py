"""What an alert leaves in the record: captured panels, and marks in the dashboards. The run does not wait for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from workload.services.own_thread import OneByOne

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from workload.services.alert import Alert

_Tasks = set[asyncio.Task[None]]
CAPTURE_SECONDS, MARK_SECONDS, FINISH_SECONDS = 180.0, 30.0, 30.0
MOST_CAPTURES_WAITING, MOST_MARKS_WAITING = 8, 64


class AlertEffects:
    """Captures and marks, one at a time per kind in a thread of its own, bounded in number and time.

    Args:
        capture: blocks while it captures the panels of an alert at an instant (seconds since the epoch); returns where.
        mark: blocks while it marks an action in the dashboards: instant, alert, action.
    """

    def __init__(self, capture: Callable[[Alert, float], str], mark: Callable[[float, str, str], None]) -> None:
        self._capture, self._mark = capture, mark
        self._captures, self._capturing = OneByOne(CAPTURE_SECONDS), _Tasks()
        self._marks, self._marking = OneByOne(MARK_SECONDS), _Tasks()

    def capture(self, alert: Alert, at: float, report: Callable[[str, str], object]) -> None:
        """Capture the moment of an alert; `report` gets a status (done or failed) and a sentence, in this loop."""
        if len(self._capturing) > MOST_CAPTURES_WAITING:
            report("failed", f"not kept: {MOST_CAPTURES_WAITING} captures are waiting already")
        else:
            _begin(self._keep(alert, at, report), self._capturing)

    def mark(self, at: float, alert: str, action: str) -> None:
        """Mark an action; while too many marks are waiting, further ones are dropped."""
        if len(self._marking) <= MOST_MARKS_WAITING:
            _begin(self._leave_mark(at, alert, action), self._marking)

    async def finish(self) -> None:
        """Wait for the captures and marks under way, at most `FINISH_SECONDS`."""
        if tasks := self._capturing | self._marking:
            await asyncio.wait(tasks, timeout=FINISH_SECONDS)

    async def _keep(self, alert: Alert, at: float, report: Callable[[str, str], object]) -> None:
        try:
            kept = await self._captures.run(self._capture, alert, at)
        except TimeoutError:
            report("failed", f"not kept: it took over {CAPTURE_SECONDS:.0f} s")
        except Exception as error:  # noqa: BLE001 - a picture that cannot be drawn must not end a run
            report("failed", f"not kept: {str(error) or type(error).__name__}")
        else:
            report("done", kept)

    async def _leave_mark(self, at: float, alert: str, action: str) -> None:
        try:
            await self._marks.run(self._mark, at, alert, action)
        except TimeoutError:
            return  # a mark is an extra


def _begin(work: Coroutine[Any, Any, None], tasks: _Tasks) -> None:
    task = asyncio.ensure_future(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
