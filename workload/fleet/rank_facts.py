"""What each engine of a server reports about its cache, by the label `engine` of its metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from workload.engine.facts import CACHE_CONFIG
from workload.fleet.events import EngineId

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VLLM = "vllm:"


@dataclass(frozen=True)
class RankFacts:
    """An engine: one rank of a server. What it does not report is None.

    Attributes:
        engine: its server's address and its rank.
        block_size: tokens per block.
        blocks: in this rank's pool, the null block included; `num_gpu_blocks` is the sum over all ranks.
        pool_bytes: size of this rank's pool.
        hit_tokens: hits are multiples of it, in models whose layers have several kinds of cache.
    """

    engine: EngineId
    block_size: int | None
    blocks: int | None
    pool_bytes: int | None
    hit_tokens: int | None


def values_on(page: str, name: str) -> list[float]:
    """Return the values of a series' samples on a metrics page."""
    return [
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    ]


def ranks_on(server: str, page: str) -> Iterator[RankFacts]:
    """Yield the engines on a metrics page, by their label `engine`; one without facts, if no label has any."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    labels = [sample.labels for sample in samples if sample.name == CACHE_CONFIG]
    if not labels and any(sample.name.startswith(VLLM) for sample in samples):
        labels = [{}]
    yield from (_rank(server, each) for each in labels)


def _rank(server: str, labels: Mapping[str, str]) -> RankFacts:
    size, tokens = _count(labels.get("block_size")), _count(labels.get("kv_cache_size_tokens"))
    return RankFacts(
        engine=EngineId(server, _count(labels.get("engine")) or 0),
        block_size=size,
        blocks=tokens // size if tokens and size else _count(labels.get("num_gpu_blocks")),
        pool_bytes=_count(labels.get("kv_cache_memory_bytes")),
        hit_tokens=_count(labels.get("cache_hit_alignment_tokens")),
    )


def _count(label: str | None) -> int | None:
    return int(label) if label and re.fullmatch(r"[0-9]{1,18}", label) else None
