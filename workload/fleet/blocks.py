"""The blocks of a prompt, found by their tokens: the engine's own names of them only link its events."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from workload.theory.reuse_bound import block_hashes

if TYPE_CHECKING:
    from collections.abc import Sequence


class Block(NamedTuple):
    """A block of a sequence.

    Attributes:
        digest: of all tokens up to its end, whatever the salt and adapter.
        key: the digest within its world: two blocks are the same block if their keys are equal.
        tag: stands for the world; empty without salt and adapter.
    """

    digest: bytes
    key: bytes
    tag: bytes


def blocks_of(tokens: Sequence[int], block_size: int, world: str) -> list[Block]:
    """Return the full blocks of a sequence from its beginning."""
    return _blocks(tokens, block_size, _tag(world), b"")


def blocks_after(parent: Block, tokens: Sequence[int], block_size: int) -> list[Block]:
    """Return the full blocks of the tokens that follow a block, in its world."""
    return _blocks(tokens, block_size, parent.tag, parent.digest)


def _blocks(tokens: Sequence[int], block_size: int, tag: bytes, parent: bytes) -> list[Block]:
    digests = block_hashes(tokens, block_size, parent=parent)
    return [Block(digest, digest + tag if tag else digest, tag) for digest in digests]


@lru_cache(maxsize=4096)
def _tag(world: str) -> bytes:
    return blake2b(world.encode(), digest_size=8).digest() if world else b""
