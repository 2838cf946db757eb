"""vLLM's KV cache events: one batch per scheduler step that changed the prefix cache.

A payload is msgpack, `[time, events, rank]`. An event is a map with its `type` from vLLM 0.24 on, and an array
`[type, field, ...]` up to 0.23; fields with their default value may be left out, and later releases append fields.
"""

from __future__ import annotations

from array import array
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from workload.theory.reuse_bound import TOKEN_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GPU = (None, "GPU")
"""The media of the prefix cache itself; blocks offloaded elsewhere are no part of it."""

# The order of an event's fields up to 0.23.
FIELDS = {
    "BlockStored": (
        *("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name"),
        *("extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "session_id"),
    ),
    "BlockRemoved": ("block_hashes", "medium", "group_idx"),
    "AllBlocksCleared": (),
}

HASH_TYPES = (int, bytes, str)
BlockHash = int | bytes | str
"""The engine's name of a block: 64 bits or all 32 bytes (hexadecimal text in recordings). It only links events."""


class EngineId(NamedTuple):
    """An engine with a cache of its own: one data-parallel rank of a server. Its `server` is an address or a name."""

    server: str
    rank: int = 0


class Stored(NamedTuple):
    """Blocks that follow each other in one sequence: computed, or reused where a call asked for the full report.

    Attributes:
        hashes: the engine's names of the blocks.
        parent: the name of the block before the first; None at the beginning of a prompt.
        tokens: their token ids, `block_size` per block.
        block_size: tokens per block.
        world: the salt and adapter that separate them from the same tokens elsewhere, see `world_of`.
        session: the id that the call was sent with; None before vLLM 0.30.
    """

    hashes: tuple[BlockHash, ...]
    parent: BlockHash | None
    tokens: array[int]
    block_size: int
    world: str
    session: str | None


class Removed(NamedTuple):
    """Blocks that were evicted; a block that is stored twice is removed twice."""

    hashes: tuple[BlockHash, ...]


class Cleared(NamedTuple):
    """The cache is empty: it was reset, or the engine was restarted."""

    cause: str = "reset"


class Lost(NamedTuple):
    """Events are missing here, so nothing is known about the cache until it is cleared."""

    cause: str


Event = Stored | Removed | Cleared | Lost


class Batch(NamedTuple):
    """The events of one scheduler step.

    Attributes:
        engine: whose cache they changed.
        at: the end of the step by the engine's clock, in seconds since 1970.
        received: when it arrived, by our clock.
        events: in the engine's order.
    """

    engine: EngineId
    at: float
    received: float
    events: tuple[Event, ...]


class MalformedEventsError(Exception):
    """A payload is not a batch of KV cache events."""


def decode(payload: bytes, server: str, received: float, rank: int = 0) -> Batch:
    """Return the batch in a message; `rank` counts where the message has none.

    Raises:
        MalformedEventsError: the payload is something else.
    """
    import ormsgpack  # noqa: PLC0415 - the doctor decodes no events, and the base does not install it

    try:
        at, events, *rest = ormsgpack.unpackb(payload)
        if rest and rest[0] is not None:
            rank = int(rest[0])
        return batch_of(EngineId(server, rank), at, received, events)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise MalformedEventsError(f"not a batch of KV cache events: {error}") from error


def batch_of(engine: EngineId, at: float, received: float, events: Iterable[Any]) -> Batch:
    """Return a batch with its decoded events, which are maps or arrays.

    Raises:
        ValueError, TypeError, LookupError, OverflowError: an event is malformed.
    """
    known = tuple(event for each in events if (event := _event(each)) is not None)
    if not isfinite(at):
        raise ValueError(f"an event at {at}")
    return Batch(engine, at, received, known)


def _event(event: Any) -> Event | None:
    """Return an event; None if it is not about the prefix cache."""
    if not isinstance(event, dict):
        kind, *values = event
        event = {"type": kind, **dict(zip(FIELDS.get(kind, ()), values, strict=False))}
    kind = event["type"]
    if kind == "AllBlocksCleared":
        return Cleared()
    if kind not in FIELDS or event.get("medium") not in GPU:
        return None
    if event.get("group_idx"):
        return Lost("a model with several groups of KV caches")
    hashes = event["block_hashes"]
    for each in hashes:
        if not isinstance(each, HASH_TYPES):
            raise TypeError("a block hash is neither a number nor bytes")
    return Removed(tuple(hashes)) if kind == "BlockRemoved" else _stored(event, tuple(hashes))


def _stored(event: Mapping[str, Any], hashes: tuple[BlockHash, ...]) -> Stored | Lost:
    if event.get("lora_id") is not None and not event.get("lora_name"):
        return Lost("an adapter without a name")
    size, tokens = event["block_size"], array(TOKEN_TYPE, event["token_ids"])
    if size < 1 or len(tokens) != size * len(hashes):
        raise ValueError(f"{len(hashes)} blocks of {size} tokens with {len(tokens)} token ids")
    extra, adapter = event.get("extra_keys"), event.get("lora_name")
    world = "" if not adapter and not (extra and extra[0]) else _world(adapter, extra[0] if extra else None)
    parent, session = event.get("parent_block_hash"), event.get("session_id")
    if not isinstance(parent, (*HASH_TYPES, type(None))) or not isinstance(session, str | None):
        raise TypeError("a parent that is no block hash, or a session that is no text")
    return Stored(hashes, parent, tokens, size, world, session)


def _world(adapter: str | None, keys: Sequence[Any] | None) -> str:
    """Return the world of a prompt's first block; keys other than a salt, such as an image's, remain in it."""
    values = [key[-1] if isinstance(key, list | tuple) else key for key in keys or ()]
    return world_of("\0".join(str(value) for value in values if value != adapter), adapter or "")


def world_of(salt: str, adapter: str = "") -> str:
    """Return what separates the blocks of calls with this cache salt and LoRA adapter from all others."""
    return f"{adapter}\0{salt}" if adapter else salt
