"""A call's account: what the client knows of it once it has ended, and the fates that its prompt tokens can have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workload.fleet.entry import Entry

Fate = Literal["hit", "tail", "cold", "elsewhere", "evicted", "reset", "flight", "salt", "behind", "unknown"]
"""Why a prompt token was or was not computed; each token has exactly one.

hit: taken from the prefix cache. tail: after the last block that can be reused: a partial block, or the block of the
last token, which is always computed. cold: in no cache before. elsewhere: in the cache of another engine, and never in
this one's. evicted: once there, but no longer. reset: there until the cache was cleared or the engine restarted.
flight: another call was computing it at that moment. salt: there under another salt or adapter only. behind: there, but
after a block that was not. unknown: events are missing, or contradict the response.
"""

FATES: tuple[Fate, ...] = get_args(Fate)


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """A call as the client knows it once it has ended; instants are in seconds since 1970.

    Attributes:
        session: the id it was sent with, which its events repeat; new for every call.
        server: the server that answered, if its answer named it.
        prompt: token ids.
        cached_tokens: as the response reports them, None if it does not.
        started: when it was sent.
        ended: when its answer was complete.
        output: generated token ids; the last one is never computed.
        world: see `workload.fleet.events.world_of`.
        on_close: called with the entry once the account is closed.
    """

    session: str
    server: str | None
    prompt: Sequence[int]
    cached_tokens: int | None
    started: float
    ended: float
    output: Sequence[int] = ()
    world: str = ""
    on_close: Callable[[Entry], object] | None = None


def usable_blocks(tokens: int, block_size: int) -> int:
    """Return how many blocks of a prompt can be reused; the last token is always computed."""
    return max(tokens - 1, 0) // block_size


def missing_tokens(account: Account, block_size: int) -> int:
    """Return the tokens of usable blocks that were not hits."""
    return max(usable_blocks(len(account.prompt), block_size) * block_size - (account.cached_tokens or 0), 0)
