"""The summary as CSV: the data of each figure, one row per value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.record.bundle import Bundle

BOUNDS = ("share", "calls", "prompt_tokens", "reusable_tokens", "within_request_tokens", "across_requests_tokens")


def write_tables(bundle: Bundle, summary: dict[str, Any]) -> None:
    """Write the bounds, the eviction curve, the heatmap and the parts of the prompts to the bundle."""
    arms = summary["arms"]
    bundle.write_csv("bounds.csv", ("arm", "block_size", "node", "hop", *BOUNDS), _bounds(arms))
    bundle.write_csv(
        "eviction.csv",
        ("arm", "in_flight", "pool_blocks", "share", "evicted_blocks"),
        ((arm, *step.values()) for arm, found in arms.items() for step in found["eviction"]),
    )
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


def _bounds(arms: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of all calls, with empty node and hop, and of each node and hop."""
    for arm, found in arms.items():
        for bound in found["bounds"]:
            for cell in ({"node": "", "hop": "", **bound}, *bound["cells"]):
                yield arm, bound["block_size"], cell["node"], cell["hop"], *(cell[name] for name in BOUNDS)


def _pairs(arms: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for arm, found in arms.items():
        shared = found["shared_prefixes"]
        for kind in ("all", "within_request", "across_requests"):
            rows = zip(shared["cells"], shared[kind]["share"], shared[kind]["pairs"], strict=True)
            for earlier, shares, counts in rows:
                for later, share, count in zip(shared["cells"], shares, counts, strict=True):
                    yield arm, kind, *earlier.values(), *later.values(), share, count
