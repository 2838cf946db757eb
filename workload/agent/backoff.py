"""How a client reacts to refusals for load: it backs off with jitter, and stops when every call is refused."""

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
MAX_RETRY_AFTER_DIGITS = 9  # thirty years; int() of a longer text only takes time


@dataclass(frozen=True)
class Backoff:
    """The waits before a refused call is sent again.

    The wait doubles with each retry and its upper half is random ("equal jitter": Brooker, Exponential Backoff And
    Jitter, AWS Architecture Blog, 2015), so that clients that were refused together do not retry together.

    Args:
        retries: the most retries of one call.
        first_seconds: the longest wait before the first retry.
        longest_seconds: no wait exceeds one and a half times this; if a server asks for more, the call is given up.
    """

    retries: int = 4
    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Random = field(default_factory=Random)

    def seconds(self, retry: int, retry_after: float | None) -> float | None:
        """Return the wait before retry number `retry`, counted from 1; None if the call should be given up.

        The wait is at least `retry_after`, the seconds that the server asked for.
        """
        if retry > self.retries or (retry_after or 0.0) > self.longest_seconds:
            return None
        half = min(self.longest_seconds, self.first_seconds * 2.0 ** (retry - 1)) / 2
        return max(retry_after or 0.0, half) + self.random.uniform(0.0, half)


class Breaker:
    """A circuit breaker: opens after `limit` consecutive refusals over all calls to one engine; then nothing is sent.

    An answered canary closes it until the next refusal, an answered call closes it fully.
    """

    def __init__(self, limit: int = MAX_REFUSALS) -> None:
        self._limit = limit
        self._refusals = 0

    @property
    def is_open(self) -> bool:
        """True while no call may be sent."""
        return self._refusals >= self._limit

    def refused(self) -> None:
        """Count a refusal."""
        self._refusals += 1

    def answered(self) -> None:
        """Reset the count after an answered call."""
        self._refusals = 0

    def half_open(self) -> None:
        """Let calls through until the next refusal."""
        self._refusals = min(self._refusals, self._limit - 1)


def retry_after_seconds(text: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds, at least 0, that a `Retry-After` header asks for as a number or a date (RFC 9110, 10.2.3).

    None if there is no header, or if it is neither.
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
