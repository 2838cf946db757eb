"""The calls to analyse, as token ids by arm, and their origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.engine.message import Message
    from workload.kv_cache.shapes import GoldCounts
    from workload.record.manifest import EngineEntry
    from workload.statistics.paired import Interval
    from workload.theory.structure import AgentCall

# vLLM's default on CUDA, used if no engine reports its own; other sizes are reported too.
CUDA_BLOCK_SIZE = 16


@dataclass(frozen=True)
class SentCall:
    """A call: its tokens, and what else is known about it.

    Attributes:
        call: its tokens and place in the agent; its salt names the engine start and the load it belongs to.
        messages: the chat messages; empty if only ids are known.
        span: start and end in seconds since the epoch; None if calls never overlap.
        reusable_tokens: the bound that the run computed while it measured.
        cached_tokens: from the engine's usage.
    """

    call: AgentCall
    messages: Sequence[Message] = ()
    span: Interval | None = None
    reusable_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class CallSource:
    """Calls by arm.

    Attributes:
        kind: where they come from.
        origin: the same in words, for pictures and tables.
        arms: calls in their order of arrival.
        block_size: tokens per block in the headline and the figures.
        engines: the engine of each arm of a recorded run.
        gold: how many gold passages were found, see `workload.kv_cache.reader`; None if the questions are unknown.
        wanted, asked: how many questions were requested, and how many were asked; None if unknown.
    """

    kind: Literal["simulated", "replayed", "recorded", "prompts"]
    origin: str
    arms: Mapping[str, Sequence[SentCall]]
    block_size: int = CUDA_BLOCK_SIZE
    engines: Mapping[str, EngineEntry] = field(default_factory=dict)
    gold: GoldCounts | None = None
    wanted: int | None = None
    asked: int | None = None
