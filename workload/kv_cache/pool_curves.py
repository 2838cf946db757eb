"""What a larger pool would bring: the reusable share at every pool size, and a sentence about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis.wording import percent
from workload.kv_cache.reuse_bounds import groups, interleaved
from workload.theory.eviction import hashed
from workload.theory.pool_curve import pool_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.kv_cache.shapes import ArmBounds, PoolPoint
    from workload.kv_cache.source import SentCall

POINTS = 32
GIB = 1 << 30


def curve_of(calls: Sequence[SentCall], block_size: int, in_flight: int) -> list[PoolPoint]:
    """Return the share from the smallest pool that fits each call to the one that evicts nothing, at most 33 points.

    The calls keep their recorded times; without them, `in_flight` questions are interleaved. Between two points lies
    the same number of hits.
    """
    ordered = calls if all(sent.span for sent in calls) else interleaved(calls, in_flight)
    curve = pool_curve(
        (
            [hashed(sent.call.prompt, sent.call.output, block_size, sent.call.salt, sent.span) for sent in group]
            for group in groups(ordered)
        ),
        block_size,
    )
    hits = len(curve.needed)
    between = [curve.needed[hits * point // POINTS] for point in range(POINTS if hits else 0)]
    sizes = {curve.smallest, curve.largest, *between}
    return [{"pool_blocks": size, "share": curve.share(size)} for size in sorted(sizes) if size >= curve.smallest]


def in_words(arm: str, found: ArmBounds) -> str | None:
    """Return what more blocks bring beyond the recorded engine's pool, or beyond the smallest; None without a share."""
    curve, engine = found["pool_curve"], found["engine"]
    pool = (engine["num_gpu_blocks"] if engine else None) or curve[0]["pool_blocks"]
    below = [point for point in curve if point["pool_blocks"] <= pool]
    now, most = below[-1] if below else curve[0], curve[-1]
    if now["share"] is None or most["share"] is None:
        return None
    if now is most:
        return f"{arm}: more than {most['pool_blocks']:,} blocks bring no further hits, and the pool has {pool:,}."
    more, size = most["pool_blocks"] - pool, engine["kv_block_bytes"] if engine else None
    memory = f" ({more * size / GIB:.2g} GiB)" if size else ""
    flight = found["eviction"][-1]["in_flight"]
    order = f"{flight} questions in flight" if flight else "calls at their recorded times"
    whose = "the engine has" if engine else "just fit"
    points = (most["share"] - now["share"]) * 100
    return (
        f"{arm}, {order}: {more:,} more blocks{memory} than the {pool:,} that {whose}"
        f" would bring {points:.1f} points, from {percent(now['share'])} to {percent(most['share'])} "
        "(stack distances of the trajectory)."
    )
