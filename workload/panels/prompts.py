"""Panels about prompts: what of them could be reused beside what was, and how they grow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.panels.panel import SPARSE, Line, Panel
from workload.promql import prompts as promql

if TYPE_CHECKING:
    from workload.promql.query import Query

REUSE_WHY = (
    "The bound is what a prefix cache without eviction could serve, computed from the block hashes of every call "
    "(hop2rag_reusable_prompt_tokens_total); measured is what the server reports (hop2rag_cached_prompt_tokens_total). "
    "A gap is reuse that was possible and was lost: to eviction, order of arrival, or caching off."
)
REUSE_BY_NODE = Panel(
    key="reuse_by_node",
    title="Prompt tokens reusable and reused, by node",
    why=REUSE_WHY,
    unit="percentunit",
    lines=(
        Line(promql.TOKENS_BY_NODE, "prompt tokens", "short"),
        Line(promql.BOUND_BY_NODE, "reusable"),
        Line(promql.HITS_BY_NODE, "reused"),
    ),
    empty="not reported",
    kind="table",
)
REUSE_BY_HOP = Panel(
    key="reuse_by_hop",
    title="Prompt tokens reusable and reused, by hop",
    why=REUSE_WHY,
    unit="percentunit",
    lines=(
        Line(promql.TOKENS_BY_HOP, "prompt tokens", "short"),
        Line(promql.BOUND_BY_HOP, "reusable"),
        Line(promql.HITS_BY_HOP, "reused"),
    ),
    empty="not reported",
    kind="table",
)
REUSE = Panel(
    key="reuse_over_time",
    title="Share reusable and reused, over a minute",
    why=REUSE_WHY,
    unit="percentunit",
    lines=(Line(promql.BOUND, "bound"), Line(promql.HITS, "measured")),
    empty="no traffic",
)
REUSE_LOST = Panel(
    key="reuse_lost",
    title="Reuse that was lost, by arm and node",
    why="Reusable less cached prompt tokens per second (hop2rag_reusable_prompt_tokens_total, "
    "hop2rag_cached_prompt_tokens_total): prefill work that a larger or warmer cache would save.",
    unit="tokens/s",
    lines=(Line(promql.LOST, "{{node}}"),),
    empty="no traffic",
    is_stacked=True,
    step=SPARSE,
)
FATES_WHY = (
    "Each prompt token has one fate, from the engine's KV cache events and the responses "
    "(hop2rag_prompt_token_fate_total): hit; cold: in no cache before; tail: after the last block that can be reused; "
    "elsewhere: in another engine's cache only; evicted; reset; flight: computed by another call at that moment; salt: "
    "under another salt; behind: after a missing block. Without events what is no hit is unknown."
)
FATE_WORDS = ("hit", "new", "elsewhere", "evicted or reset", "flight, salt, behind", "unknown")
FATES = Panel(
    key="prompt_token_fates",
    title="What becomes of prompt tokens, by fate",
    why=FATES_WHY,
    unit="tokens/s",
    lines=(Line(promql.FATES, "{{fate}}"),),
    empty="no ledger",
    is_stacked=True,
    step=SPARSE,
)


def _fates_by(label: str, *shares: Query) -> Panel:
    """Return the table of the shares of prompt tokens by fate, a row per node or hop."""
    return Panel(
        key=f"prompt_token_fates_by_{label}",
        title=f"By {label}: share of prompt tokens by fate",
        why=FATES_WHY,
        unit="percentunit",
        lines=tuple(map(Line, shares, FATE_WORDS)),
        empty="no ledger",
        kind="table",
    )


FATES_BY_NODE = _fates_by(
    "node",
    *(promql.HIT_BY_NODE, promql.NEW_BY_NODE, promql.ELSEWHERE_BY_NODE),
    *(promql.EVICTED_BY_NODE, promql.OTHER_BY_NODE, promql.UNKNOWN_BY_NODE),
)
FATES_BY_HOP = _fates_by(
    "hop",
    *(promql.HIT_BY_HOP, promql.NEW_BY_HOP, promql.ELSEWHERE_BY_HOP),
    *(promql.EVICTED_BY_HOP, promql.OTHER_BY_HOP, promql.UNKNOWN_BY_HOP),
)
FINDABLE = Panel(
    key="prompt_tokens_findable",
    title="Prompt tokens in a cache: once, anywhere, here, hit",
    why="From what one cache without eviction could serve to what was served (hop2rag_findable_prompt_tokens_total). "
    "The first gap is a pool that is too small, the second is routing, the third is the engine.",
    unit="percentunit",
    lines=(
        Line(promql.IN_ANY_CACHE, "in any cache once"),
        Line(promql.IN_BEST_CACHE, "in the best engine's cache"),
        Line(promql.IN_CHOSEN_CACHE, "in the chosen engine's cache"),
        Line(promql.DELIVERED, "hit"),
    ),
    empty="no ledger",
)
SIZE_BY_HOP = Panel(
    key="prompt_size_by_hop",
    title="Prompt of a call by hop, mean in tokens",
    why="How the context grows as evidence is added (hop2rag_llm_call_prompt_tokens).",
    unit="short",
    lines=(Line(promql.SIZE_BY_HOP, "hop {{hop}}"),),
    empty="no traffic",
    kind="bargauge",
)
SIZE_BY_NODE = Panel(
    key="prompt_size_by_node",
    title="Prompt of a call by node, mean in tokens",
    why="Which node reads the most (hop2rag_llm_call_prompt_tokens).",
    unit="short",
    lines=(Line(promql.SIZE_BY_NODE, "{{node}}"),),
    empty="no traffic",
    kind="bargauge",
)
SIZE = Panel(
    key="prompt_size_over_time",
    title="Prompt tokens of a call by hop, over a minute",
    why="Calls of later hops carry more documents (hop2rag_llm_call_prompt_tokens).",
    unit="short",
    lines=(Line(promql.SIZE, "hop {{hop}}"),),
    empty="no traffic",
)
SIZE_HEATMAP = Panel(
    key="prompt_size_heatmap",
    title="How long are prompts, in tokens?",
    why="LLM calls by length of their prompt (hop2rag_llm_call_prompt_tokens).",
    unit="short",
    lines=(Line(promql.SIZE_BUCKETS, "{{le}}"),),
    empty="no traffic",
    kind="heatmap",
    step=SPARSE,
)
