"""The reuse bound: how many prompt tokens a prefix cache that evicts nothing could serve.

vLLM caches whole blocks of B tokens under a hash that includes the parent's hash, so a block is found again only if
everything before it is the same. For a call of n tokens, in order of arrival,

    h = B * max{k <= floor((n - 1) / B) : the first k blocks were seen in an earlier call}

n - 1, because the last token is always computed: its logits choose the first generated token. An earlier call leaves
the full blocks of its prompt and of its generated tokens except the last, which is sampled but never computed.
Source of the rule: vLLM's `kv_cache_manager.get_computed_blocks` and its design page on automatic prefix caching.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from hashlib import blake2b
from itertools import takewhile
from typing import TYPE_CHECKING

from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIGEST_BYTES = 16
TOKEN_TYPE = "I"  # noqa: S105 - an array type code: unsigned, four bytes


def block_hashes(tokens: Sequence[int], block_size: int, salt: str = "", parent: bytes = b"") -> Iterator[bytes]:
    """Yield the chained hash of each full block of `tokens`; as in vLLM, prompts of different salts share nothing.

    The digest is stable across processes, so hashes of different runs can be compared. `parent` is the hash of the
    block before `tokens`, if there is one.
    """
    width = block_size * array(TOKEN_TYPE).itemsize
    raw = array(TOKEN_TYPE, tokens).tobytes()
    digest = parent or salt.encode()
    for start in range(0, len(raw) - width + 1, width):
        digest = blake2b(digest + raw[start : start + width], digest_size=DIGEST_BYTES).digest()
        yield digest


class PrefixIndex:
    """The blocks that earlier calls left in the cache, without eviction unless a capacity is given.

    Args:
        block_size: tokens per block, as the engine reports it in `cache_config_info`.
        capacity_blocks: the most blocks remembered. Beyond it the least recently seen are forgotten, the end of a
            prompt before its beginning, as vLLM evicts; so an endless run needs bounded memory.
    """

    def __init__(self, block_size: int, capacity_blocks: int | None = None) -> None:
        if block_size < 1:
            raise UsageError(f"A block of {block_size} tokens is not possible.", "Use 1 or more.")
        self.block_size = block_size
        self._capacity_blocks = capacity_blocks
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def observe(self, prompt: Sequence[int], salt: str = "") -> int:
        """Return the reusable tokens of an arriving prompt (token ids), and remember its blocks."""
        return self.observe_hashed(list(block_hashes(prompt, self.block_size, salt)), len(prompt))

    def observe_hashed(self, hashes: Sequence[bytes], tokens: int) -> int:
        """Do the same as `observe` for a prompt of `tokens` tokens whose full blocks have these hashes."""
        usable = hashes[: max(tokens - 1, 0) // self.block_size]
        reusable_blocks = sum(1 for _ in takewhile(self._seen.__contains__, usable))
        self.remember(hashes)
        return reusable_blocks * self.block_size

    def observe_output(self, prompt: Sequence[int], output: Sequence[int], salt: str = "") -> None:
        """Remember the blocks that generating `output` (token ids) after `prompt` has filled."""
        self.remember(list(block_hashes([*prompt, *output[:-1]], self.block_size, salt)))

    def remember(self, hashes: Sequence[bytes]) -> None:
        """Remember the blocks of one sequence, from its beginning."""
        if self._capacity_blocks is None:
            self._seen.update(dict.fromkeys(hashes))
            return
        for digest in reversed(hashes):
            self._seen[digest] = None
            self._seen.move_to_end(digest)
        while len(self._seen) > self._capacity_blocks:
            self._seen.popitem(last=False)

    def __len__(self) -> int:
        return len(self._seen)
