"""What a client does that is refused for load: wait longer each time, out of step with others, and stop in a storm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MAX_REFUSALS = 10
MAX_RETRY_AFTER_DIGITS = 9  # thirty years; int() of a longer text only costs time


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a refused call is sent again.

    The wait doubles with each retry and its upper half is random ("equal jitter": Brooker, Exponential Backoff And
    Jitter, AWS Architecture Blog, 2015), so that clients refused together do not come back together.

    Args:
        retries: how often one call is sent again at the most.
        first_seconds: the longest wait before the first retry.
        longest_seconds: no wait is longer than one and a half times this; a server that asks for more is not asked
            again.
        sleep: waits the given seconds.
        random: the source of the jitter.
    """

    retries: int = 4
    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Random = field(default_factory=Random)

    def seconds(self, retry: int, retry_after: float | None) -> float | None:
        """Return the wait before retry number `retry`, counted from 1; None when the call is to be given up.

        Never less than `retry_after`, the seconds that the server asked for.
        """
        if retry > self.retries or (retry_after or 0.0) > self.longest_seconds:
            return None
        half = min(self.longest_seconds, self.first_seconds * 2.0 ** (retry - 1)) / 2
        return max(retry_after or 0.0, half) + self.random.uniform(0.0, half)


class Breaker:
    """Counts refusals in a row over all calls to one engine; from `limit` on it is open, and nothing is sent.

    It is closed for one call when the engine has answered a canary, and for good once a call was answered.
    """

    def __init__(self, limit: int = MAX_REFUSALS) -> None:
        self._limit = limit
        self._refusals = 0

    @property
    def is_open(self) -> bool:
        """Whether calls must not be sent."""
        return self._refusals >= self._limit

    def refused(self) -> None:
        """Note a refusal."""
        self._refusals += 1

    def answered(self) -> None:
        """Note a call that was answered."""
        self._refusals = 0

    def half_open(self) -> None:
        """Let calls through until the next refusal."""
        self._refusals = min(self._refusals, self._limit - 1)


def retry_after_seconds(text: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, as a number or a date (RFC 9110, 10.2.3), from 0 on.

    None where there is none, or where it is neither.
    """
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= MAX_RETRY_AFTER_DIGITS:
        return float(text)
    try:
        until = parsedate_to_datetime(text)
        return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a time zone
        return None
