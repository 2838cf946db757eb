"""A closed account: the fate of each prompt token, and how many could have been hits where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from workload.fleet.account import missing_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.fleet.account import Account
    from workload.fleet.events import EngineId


class Chain(NamedTuple):
    """Prompt tokens of a call that could have been hits, from the most to those that were.

    What lies between two neighbours is lost to: a pool that is too small, or was cleared; routing; the engine.

    Attributes:
        bound: in blocks that any engine's cache once contained: hits of one cache that never evicts.
        in_fleet: in the cache of the engine that contained most.
        on_engine: in the cache of the engine that served the call.
        delivered: hits.
    """

    bound: int
    in_fleet: int
    on_engine: int
    delivered: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A closed account.

    Attributes:
        account: the call.
        engine: which engine served it; None if nothing says so.
        fates: prompt tokens by fate, without zeros; they add up to the prompt.
        chain: None if the content of an engine's cache is not known, contradicts the response, or was not looked up.
    """

    account: Account
    engine: EngineId | None
    fates: Mapping[str, int]
    chain: Chain | None


def entry_of(
    account: Account,
    block_size: int,
    engine: EngineId | None = None,
    missing: Mapping[str, int] | None = None,
    chain: Chain | None = None,
) -> Entry:
    """Return a closed account; `missing` are the fates of usable blocks that were not hits, unknown by default."""
    lost = missing_tokens(account, block_size)
    fates: Counter[str] = Counter({"unknown": lost} if missing is None else missing)
    hit = min(account.cached_tokens or 0, len(account.prompt))
    fates.update(hit=hit, tail=len(account.prompt) - hit - lost)
    return Entry(account, engine, dict(+fates), chain)
