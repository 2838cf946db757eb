"""What calls share: the reuse bound split by where a prefix was seen before, and which calls share with which.

A block's hash includes its parent's, so the longest prefix seen anywhere is the longer of those seen in the same
request and in others: per call `all = max(within, across)`. Both can contain the same prefix, so within and across do
not add up to all.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import KW_ONLY, dataclass
from itertools import combinations, takewhile
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from workload.errors import UsageError
from workload.theory.reuse_bound import block_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

BLOCK_SIZES = (1, 16, 32, 64, 128, 256)

Cell = tuple[str, int]


@dataclass(frozen=True)
class AgentCall:
    """A call as the engine sees it, the token ids of prompt and output, and its place in the agent."""

    question: str
    node: str
    hop: int
    prompt: Sequence[int]
    output: Sequence[int] = ()
    _: KW_ONLY
    salt: str = ""

    @property
    def cell(self) -> Cell:
        """Its node and hop."""
        return self.node, self.hop


class Bound(TypedDict):
    """Tokens of some calls reusable from all earlier calls, from calls of the same request, and from other requests.

    `share` is reusable over prompt tokens, None for empty prompts. `uncached_tokens` must be computed; layouts are
    judged by them, because a longer prompt inflates the share.
    """

    share: float | None
    calls: int
    prompt_tokens: int
    reusable_tokens: int
    within_request_tokens: int
    across_requests_tokens: int
    uncached_tokens: int


@dataclass(frozen=True, eq=False)
class SharedPrefixes:
    """The mean shared-prefix share of call pairs, shape (cells, cells); its values must not be added up.

    `share[i, j]` is the common prefix over the later prompt's length, averaged over the pairs of an earlier call in
    `cells[i]` and a later one in `cells[j]`; NaN where there is no pair. `pairs` counts them.
    """

    cells: tuple[Cell, ...]
    share: NDArray[np.float64]
    pairs: NDArray[np.int64]


def reuse_structure(calls: Sequence[AgentCall], block_size: int) -> tuple[Bound, dict[Cell, Bound]]:
    """Return the bound of calls in their order of arrival at one block size: of all, and by node and hop.

    Raises:
        UsageError: the block size is below 1.
    """
    if block_size < 1:
        raise UsageError(f"A block of {block_size} tokens is not possible.", "Use 1 or more.")
    requests_of: dict[bytes, frozenset[str]] = {}
    no_request: frozenset[str] = frozenset()
    rows: defaultdict[Cell, list[tuple[int, int, int, int]]] = defaultdict(list)
    for call in calls:
        n, alone = len(call.prompt), frozenset((call.question,))
        hashes = list(block_hashes([*call.prompt, *call.output[:-1]], block_size, call.salt))
        known = [requests_of.get(key, no_request) for key in hashes[: max(n - 1, 0) // block_size]]
        within = _count_leading(alone <= seen for seen in known) * block_size
        across = _count_leading(bool(seen - alone) for seen in known) * block_size
        rows[call.cell].append((n, max(within, across), within, across))
        for key in hashes:
            # All blocks of a call share one set; only blocks that several requests share need a union.
            requests_of[key] = requests_of[key] | alone if key in requests_of else alone
    by_cell = {cell: _bound(found) for cell, found in rows.items()}
    return _bound([row for found in rows.values() for row in found]), by_cell


def shared_prefixes(calls: Sequence[AgentCall]) -> SharedPrefixes:
    """Return the mean shared-prefix share of all pairs of calls; under different salts they share nothing."""
    cells = tuple(sorted({call.cell for call in calls}, key=lambda cell: (cell[1], cell[0])))
    place = {cell: index for index, cell in enumerate(cells)}
    total = np.zeros((len(cells), len(cells)))
    pairs = np.zeros_like(total, dtype=np.int64)
    prompts = [(call, np.asarray(call.prompt, dtype=np.int64)) for call in calls if call.prompt]
    for (earlier, first), (later, second) in combinations(prompts, 2):
        at = place[earlier.cell], place[later.cell]
        pairs[at] += 1
        if earlier.salt == later.salt:
            total[at] += common_prefix(first, second) / len(second)
    with np.errstate(invalid="ignore"):
        return SharedPrefixes(cells, total / pairs, pairs)


def common_prefix(first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Return the length of the common prefix of two arrays of token ids."""
    length = min(len(first), len(second))
    different = first[:length] != second[:length]
    return int(different.argmax()) if different.any() else length


def _count_leading(hits: Iterable[bool]) -> int:
    return sum(1 for _ in takewhile(bool, hits))


def _bound(rows: Sequence[tuple[int, int, int, int]]) -> Bound:
    prompt, reusable, within, across = map(sum, zip(*rows, strict=True)) if rows else (0, 0, 0, 0)
    return {
        "share": reusable / prompt if prompt else None,
        "calls": len(rows),
        "prompt_tokens": prompt,
        "reusable_tokens": reusable,
        "within_request_tokens": within,
        "across_requests_tokens": across,
        "uncached_tokens": prompt - reusable,
    }
