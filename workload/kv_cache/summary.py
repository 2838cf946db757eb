"""The experiment's summary: all bounds of all arms, the savings of each arm over the first, and the same as CSV."""

from __future__ import annotations

from collections import Counter, defaultdict
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from workload.kv_cache.parts import PARTS, parts_of
from workload.kv_cache.pool_curves import curve_of
from workload.kv_cache.reuse_bounds import compared_with_engine, eviction_steps, reusable_by_call, uncached_by_question
from workload.statistics.paired import compare, mean_ci
from workload.statistics.percentiles import quantile
from workload.theory.structure import BLOCK_SIZES, AgentCall, Cell, reuse_structure, shared_prefixes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from workload.corpus.tokenizer import ChatTokenizer
    from workload.kv_cache import shapes
    from workload.kv_cache.source import CallSource, SentCall
    from workload.record.bundle import Bundle

# All pairs of this many calls are compared in seconds; the picture says how many it shows.
MAX_PICTURED_CALLS = 600
# Questions in flight for which the eviction of sequential calls is computed.
IN_FLIGHT = (1, 8)
BOUNDS: Final = (
    "share",
    "calls",
    "prompt_tokens",
    "reusable_tokens",
    "within_request_tokens",
    "across_requests_tokens",
)


def summarize(source: CallSource, tokenizer: ChatTokenizer | None) -> shapes.Bounds:
    """Return the bounds of the calls.

    `tokenizer` splits the prompts of our own agent into their parts; without it, or for other prompts, `parts` is None.
    """
    size = source.block_size
    sizes = sorted({*BLOCK_SIZES, size})
    reusable = {arm: reusable_by_call(calls, size) for arm, calls in source.arms.items()}
    uncached = {arm: uncached_by_question(calls, reusable[arm]) for arm, calls in source.arms.items()}
    first, *others = source.arms
    arms: dict[str, shapes.ArmBounds] = {}
    for arm, calls in source.arms.items():
        prompts = uncached_by_question(calls, [0] * len(calls))
        arms[arm] = {
            "calls": len(calls),
            "questions": len(prompts),
            "requests": requests_in(calls),
            "prompt_tokens_per_question": fmean(prompts.values()),
            "uncached_tokens_per_question": fmean(uncached[arm].values()),
            "uncached_tokens_per_question_ci": mean_ci(uncached[arm].values(), (0, inf)),
            "bounds": [bounds_at(calls, block_size) for block_size in sizes],
            "computed_by_cell": computed_by_cell(calls, reusable[arm]),
            "eviction": eviction(calls, size),
            "pool_curve": curve_of(calls, size, IN_FLIGHT[-1]),
            "shared_prefixes": picture(calls[:MAX_PICTURED_CALLS]),
            "parts": parts_per_question(source, arm, reusable[arm], tokenizer) if tokenizer else None,
            "engine": compared_with_engine(calls, reusable[arm], size, source.engines.get(arm)),
        }
    return {
        "source": source.kind,
        "is_simulated": source.origin.startswith("SIMULATED"),
        "origin": source.origin,
        "tokenizer": tokenizer.name if tokenizer else None,
        "block_size": size,
        "arms": arms,
        "compared_with": first,
        "uncached_tokens_compared": {arm: compare(uncached[first], uncached[arm]) for arm in others},
    }


def requests_in(calls: Sequence[SentCall]) -> int:
    """Return how many times a question was asked; a run may ask it again after each start of an engine."""
    return len({(sent.call.question, sent.call.salt) for sent in calls})


def bounds_at(calls: Sequence[SentCall], block_size: int) -> shapes.SizeBound:
    """Return the bound of all calls at a block size, and by node and hop."""
    total, by_cell = reuse_structure([sent.call for sent in calls], block_size)
    cells: list[shapes.CellBound] = [{"node": node, "hop": hop, **bound} for (node, hop), bound in by_cell.items()]
    return {"block_size": block_size, **total, "cells": cells}


def computed_by_cell(calls: Sequence[SentCall], reusable: Sequence[int]) -> list[shapes.Computed]:
    """Return the tokens to compute per call of each node and hop: the mean and two percentiles."""
    found: dict[Cell, list[int]] = defaultdict(list)
    for sent, cached in zip(calls, reusable, strict=True):
        found[sent.call.cell].append(len(sent.call.prompt) - cached)
    return [
        {
            "node": node,
            "hop": hop,
            "calls": len(tokens),
            "uncached_mean": fmean(tokens),
            "uncached_p10": quantile(tokens, 0.1),
            "uncached_p90": quantile(tokens, 0.9),
        }
        for (node, hop), tokens in found.items()
    ]


def eviction(calls: Sequence[SentCall], block_size: int) -> list[shapes.EvictionStep]:
    """Return the bound by pool size, in the recorded order of calls, else with one and with many in flight."""
    flights = (None,) if all(sent.span for sent in calls) else IN_FLIGHT
    return [step for in_flight in flights for step in eviction_steps(calls, block_size, in_flight)]


def picture(calls: Sequence[SentCall]) -> shapes.SharedPrefixes:
    """Return the mean shared-prefix share of call pairs: of all, of pairs within a request, and of pairs across two."""
    found = shared_prefixes([sent.call for sent in calls])
    place = {cell: position for position, cell in enumerate(found.cells)}
    of_one: dict[tuple[str, str], list[AgentCall]] = defaultdict(list)
    for sent in calls:
        of_one[sent.call.question, sent.call.salt].append(sent.call)
    within, pairs = np.zeros_like(found.share), np.zeros_like(found.pairs)
    for request in of_one.values():
        own = shared_prefixes(request)
        at = np.ix_([place[cell] for cell in own.cells], [place[cell] for cell in own.cells])
        within[at] += np.nan_to_num(own.share) * own.pairs
        pairs[at] += own.pairs
    across = np.nan_to_num(found.share) * found.pairs - within
    return {
        "calls": len(calls),
        "cells": [{"node": node, "hop": hop} for node, hop in found.cells],
        "all": _means(within + across, found.pairs),
        "within_request": _means(within, pairs),
        "across_requests": _means(across, found.pairs - pairs),
    }


def parts_per_question(
    source: CallSource, arm: str, reusable: Sequence[int], tokenizer: ChatTokenizer
) -> dict[str, dict[Literal["tokens", "uncached"], float]] | None:
    """Return the tokens per question of each part of the prompts: all, and those that must be computed.

    None for prompts of other programs, and if another tokenizer made the ids.
    """
    calls = source.arms[arm]
    tokens: Counter[str] = Counter()
    uncached: Counter[str] = Counter()
    for sent, cached in zip(calls, reusable, strict=True):
        is_ours = source.kind != "prompts" and sent.messages
        if not is_ours or tokenizer.prompt_ids(sent.messages) != list(sent.call.prompt):
            return None
        parts = parts_of(sent.messages, tokenizer)
        tokens.update(parts)
        uncached.update(parts[cached:])
    requests = requests_in(calls)
    return {part: {"tokens": tokens[part] / requests, "uncached": uncached[part] / requests} for part in PARTS}


def _means(total: NDArray[np.float64], pairs: NDArray[np.int64]) -> dict[Literal["share", "pairs"], shapes.Matrix]:
    share = [
        [value / count if count else None for value, count in zip(*row, strict=True)]
        for row in zip(total.tolist(), pairs.tolist(), strict=True)
    ]
    return {"share": share, "pairs": pairs.tolist()}


def write_tables(bundle: Bundle, summary: shapes.KvCacheSummary) -> None:
    """Write the data of each figure to the bundle as CSV, one row per value."""
    arms = summary["arms"]
    bundle.write_csv("bounds.csv", ("arm", "block_size", "node", "hop", *BOUNDS), _bounds(arms))
    bundle.write_csv(
        "eviction.csv",
        ("arm", "in_flight", "pool_blocks", "share", "evicted_blocks"),
        ((arm, *step.values()) for arm, found in arms.items() for step in found["eviction"]),
    )
    points = ((arm, *point.values()) for arm, found in arms.items() for point in found["pool_curve"])
    bundle.write_csv("pool_curve.csv", ("arm", "pool_blocks", "share"), points)
    header = ("arm", "of", "earlier_node", "earlier_hop", "later_node", "later_hop", "share", "pairs")
    bundle.write_csv("shared_prefixes.csv", header, _pairs(arms))
    bundle.write_csv(
        "parts.csv",
        ("arm", "part", "tokens_per_question", "uncached_tokens_per_question"),
        (
            (arm, part, values["tokens"], values["uncached"])
            for arm, found in arms.items()
            for part, values in (found["parts"] or {}).items()
        ),
    )


def _bounds(arms: dict[str, shapes.ArmBounds]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of all calls, with empty node and hop, and of each node and hop."""
    for arm, found in arms.items():
        for bound in found["bounds"]:
            yield arm, bound["block_size"], "", "", *(bound[name] for name in BOUNDS)
            for cell in bound["cells"]:
                yield arm, bound["block_size"], cell["node"], cell["hop"], *(cell[name] for name in BOUNDS)


def _pairs(arms: dict[str, shapes.ArmBounds]) -> Iterator[tuple[Any, ...]]:
    for arm, found in arms.items():
        shared = found["shared_prefixes"]
        for kind in ("all", "within_request", "across_requests"):
            rows = zip(shared["cells"], shared[kind]["share"], shared[kind]["pairs"], strict=True)
            for earlier, shares, counts in rows:
                for later, share, count in zip(shared["cells"], shares, counts, strict=True):
                    yield arm, kind, *earlier.values(), *later.values(), share, count
