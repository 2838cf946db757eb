"""What is analysed: calls in token ids, by arm, and what a picture of them must say about where they come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.engine.message import Message
    from workload.statistics.paired import Interval
    from workload.theory.structure import AgentCall

# vLLM's own on CUDA; used where no engine says otherwise, and never alone: every size is reported.
CUDA_BLOCK_SIZE = 16


@dataclass(frozen=True)
class SentCall:
    """A call in its order of arrival, with what is known of it besides its tokens.

    Attributes:
        call: its tokens and place in the agent; its salt names the engine start and the load it belongs to.
        messages: the chat messages, empty where only ids are known.
        span: start and end in seconds since the epoch; None where calls never overlap.
        reusable_tokens: the bound that the run worked out while it measured.
        cached_tokens: what the engine says it served from its cache.
    """

    call: AgentCall
    messages: Sequence[Message] = ()
    span: Interval | None = None
    reusable_tokens: int | None = None
    cached_tokens: int | None = None


@dataclass(frozen=True)
class CacheFacts:
    """What a recorded run's engine told about its cache; None where it did not."""

    block_size: int | None
    num_gpu_blocks: int | None
    prefix_caching: bool | None


@dataclass(frozen=True, kw_only=True)
class CallSource:
    """Calls by arm.

    Attributes:
        kind: where they come from.
        origin: the same in words, for every picture and table.
        arms: calls in their order of arrival.
        block_size: tokens a block of the headline and the figures.
        engines: what was told of the engine of each arm of a recorded run.
        gold: how many gold passages were found, see `workload.kv_cache.gold`; None where no questions are known.
        wanted: how many questions were asked for, and `asked` how many there were; None where that is not known.
    """

    kind: Literal["simulated", "replayed", "recorded", "prompts"]
    origin: str
    arms: Mapping[str, Sequence[SentCall]]
    block_size: int = CUDA_BLOCK_SIZE
    engines: Mapping[str, CacheFacts] = field(default_factory=dict)
    gold: Mapping[str, int] | None = None
    wanted: int | None = None
    asked: int | None = None
