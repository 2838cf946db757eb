"""Decoding of KV cache events, of every release that has them."""

from __future__ import annotations

from array import array
from typing import Any

import ormsgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.fleet.events import (
    Cleared,
    EngineId,
    Lost,
    MalformedEventsError,
    Removed,
    Stored,
    decode,
    world_of,
)

STORED = {"type": "BlockStored", "block_hashes": [2**64 - 1, 7], "parent_block_hash": None, "token_ids": [1, 2, 3, 4]}
STORED |= {"block_size": 2, "session_id": "call-1", "extra_keys": [["salt"], None]}


def events_of(*events: Any) -> tuple[Any, ...]:
    """Return the events of a batch with these."""
    return decode(ormsgpack.packb([1.5, list(events), 3]), "e0", 2.0).events


def test_reads_the_maps_of_current_releases() -> None:
    """From 0.24 on an event is a map that leaves out defaults; the rank lies in the batch."""
    batch = decode(ormsgpack.packb([1.5, [STORED, {"type": "AllBlocksCleared"}], 3]), "e0", 2.0)
    assert batch[:3] == (EngineId("e0", 3), 1.5, 2.0)
    stored = Stored((2**64 - 1, 7), None, array("I", [1, 2, 3, 4]), 2, "salt", "call-1")
    assert batch.events == (stored, Cleared())


def test_reads_the_arrays_of_early_releases() -> None:
    """Up to 0.23 an event is an array in the order of its fields, whose hashes may be bytes."""
    early = ["BlockStored", [b"a", b"b"], b"parent", [1, 2, 3, 4], 2, None]
    (stored, removed) = events_of(early, ["BlockRemoved", [b"a"]])
    assert (stored.hashes, stored.parent, stored.session) == ((b"a", b"b"), b"parent", None)
    assert removed == Removed((b"a",))


def test_a_batch_without_a_rank_gets_that_of_its_endpoint() -> None:
    """The first releases published no rank, but each rank has its own port."""
    assert decode(ormsgpack.packb([1.5, []]), "e0", 2.0, rank=1).engine == EngineId("e0", 1)
    assert decode(ormsgpack.packb([1.5, [], None]), "e0", 2.0, rank=1).engine == EngineId("e0", 1)


@pytest.mark.parametrize(
    ("fields", "world"),
    [
        ({"extra_keys": None}, ""),
        ({"extra_keys": [None, None]}, ""),
        ({"extra_keys": [["salt"], None]}, world_of("salt")),
        ({"extra_keys": [[["cache_salt", "salt"]], None]}, world_of("salt")),
        (
            {"extra_keys": [["lora-a", "salt"], ["lora-a"]], "lora_name": "lora-a", "lora_id": 1},
            world_of("salt", "lora-a"),
        ),
        ({"extra_keys": [["lora-a"], ["lora-a"]], "lora_name": "lora-a"}, world_of("", "lora-a")),
    ],
)
def test_salt_and_adapter_make_the_world(fields: dict[str, Any], world: str) -> None:
    """Blocks of equal tokens under another salt or adapter are other blocks."""
    (stored,) = events_of(STORED | fields)
    assert stored.world == world


def test_only_the_prefix_cache_of_the_gpu_counts() -> None:
    """An offloaded block is told with its medium; it must neither enter nor leave the prefix cache."""
    offloaded = {"type": "BlockRemoved", "block_hashes": [7], "medium": "CPU"}
    assert events_of(STORED | {"medium": "CPU"}, offloaded, {"type": "SomethingNew"}) == ()
    assert len(events_of(STORED | {"medium": "GPU"})) == 1


@pytest.mark.parametrize("fields", [{"group_idx": 1}, {"lora_id": 4}])
def test_what_is_not_modelled_counts_as_lost(fields: dict[str, Any]) -> None:
    """A hit in a hybrid model needs blocks of all groups, and an adapter has no name before 0.16."""
    assert isinstance(events_of(STORED | fields)[0], Lost)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        ormsgpack.packb({"not": "a batch"}),
        ormsgpack.packb([1.5]),
        ormsgpack.packb(["then", [STORED]]),
        ormsgpack.packb([1.5, [STORED | {"token_ids": [1, 2, 3]}], 0]),
        ormsgpack.packb([1.5, [STORED | {"token_ids": [1, 2, 3, -4]}], 0]),
        ormsgpack.packb([1.5, [STORED | {"token_ids": None}], 0]),
        ormsgpack.packb([1.5, [STORED | {"block_size": 0, "token_ids": []}], 0]),
        ormsgpack.packb([1.5, [STORED | {"block_hashes": [[], {}]}], 0]),
        ormsgpack.packb([1.5, [STORED | {"parent_block_hash": []}], 0]),
        ormsgpack.packb([1.5, [STORED | {"session_id": []}], 0]),
        ormsgpack.packb([1.5, [STORED], []]),
        ormsgpack.packb([float("nan"), [STORED], 0]),
        ormsgpack.packb([1.5, [{"type": "BlockRemoved"}], 0]),
        ormsgpack.packb([1.5, [[]], 0]),
    ],
)
def test_a_malformed_payload_is_refused(payload: bytes) -> None:
    """Something else may publish on the port; the subscription then counts events as lost."""
    with pytest.raises(MalformedEventsError):
        decode(payload, "e0", 2.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*STORED, "x"]), inner, max_size=4),
    max_leaves=12,
)


@given(JSON | st.tuples(st.floats(0, 9), st.lists(st.just(STORED) | JSON, max_size=3), JSON))
def test_nothing_else_is_raised(value: Any) -> None:
    """Whatever arrives on a socket, the thread that reads it must survive."""
    try:
        decode(ormsgpack.packb(value), "e0", 2.0)
    except MalformedEventsError:
        return


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(payload: bytes) -> None:
    """The same for bytes that are no msgpack."""
    try:
        decode(payload, "e0", 2.0)
    except MalformedEventsError:
        return
