"""What the experiment's summary consists of; shares are 0 to 1, other values are tokens, blocks or counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

from workload.analysis.summaries import Summary
from workload.theory.structure import Bound

if TYPE_CHECKING:
    from workload.analysis.ab import Quality
    from workload.statistics.paired import Comparison, Interval

GoldCounts = dict[Literal["questions", "found_all", "found_none", "unreadable"], int]
Matrix = list[list[float | None]]


class Place(TypedDict):
    """Where in the agent calls come from."""

    node: str
    hop: int


class CellBound(Bound, Place):
    """The reuse bound of the calls of a node and hop."""


class SizeBound(Bound):
    """The reuse bound of all calls at a block size, and by node and hop."""

    block_size: int
    cells: list[CellBound]


class Computed(Place):
    """Tokens to compute per call of a node and hop; a percentile is None if there are too few calls."""

    calls: int
    uncached_mean: float
    uncached_p10: float | None
    uncached_p90: float | None


class EvictionStep(TypedDict):
    """The reusable share in a pool of `pool_blocks` blocks; `in_flight` is None for the recorded order of calls."""

    in_flight: int | None
    pool_blocks: int
    share: float | None
    evicted_blocks: int


class PoolPoint(TypedDict):
    """The reusable share in a pool of `pool_blocks` blocks, the null block included."""

    pool_blocks: int
    share: float | None


class SharedPrefixes(TypedDict):
    """Mean shared-prefix share, and number, of call pairs: of all, within a request, and across two requests.

    `share[i][j]` is for an earlier call in `cells[i]` and a later one in `cells[j]`; None without a pair.
    """

    calls: int
    cells: list[Place]
    all: dict[Literal["share", "pairs"], Matrix]
    within_request: dict[Literal["share", "pairs"], Matrix]
    across_requests: dict[Literal["share", "pairs"], Matrix]


class EngineComparison(TypedDict):
    """What a recorded run's engine served, and the bounds computed from the run's prompts.

    Calls whose bound equals the run's own (`equal_to_run`) or the cached tokens (`equal_to_engine`), the share that the
    engine served, and the share that a pool of its size allows (`modelled_share`).
    """

    prefix_caching: bool | None
    compared_calls: int
    equal_to_run: int
    equal_to_engine: int | None
    cached_share: float | None
    num_gpu_blocks: int | None
    kv_block_bytes: float | None
    modelled_share: float | None


class ArmBounds(TypedDict):
    """The bounds of an arm; `parts` is None for other prompts than our agent's, `engine` without a recorded run."""

    calls: int
    questions: int
    requests: int
    prompt_tokens_per_question: float
    uncached_tokens_per_question: float
    uncached_tokens_per_question_ci: Interval | None
    bounds: list[SizeBound]
    computed_by_cell: list[Computed]
    eviction: list[EvictionStep]
    pool_curve: list[PoolPoint]
    shared_prefixes: SharedPrefixes
    parts: dict[str, dict[Literal["tokens", "uncached"], float]] | None
    engine: EngineComparison | None


class Bounds(Summary):
    """The bounds of all arms, and the paired change of the tokens to compute against the first arm."""

    source: Literal["simulated", "replayed", "recorded", "prompts"]
    is_simulated: bool
    origin: str
    tokenizer: str | None
    block_size: int
    arms: dict[str, ArmBounds]
    compared_with: str
    uncached_tokens_compared: dict[str, Comparison]


class KvCacheSummary(Bounds):
    """Experiment 1; `gold` has the questions by the gold passages found, None if the questions are unknown."""

    chats_checked_against_the_server: int
    quality: dict[str, Quality] | None
    gold: GoldCounts | None
    wanted: int | None
    asked: int | None
