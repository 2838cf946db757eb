"""The summary of each experiment: `reduce` returns it, and tables, verdicts and pictures read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from workload.analysis.memory import KvOfHop, Peak, Phase, Sampling, Spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.analysis.ab import Amdahl, Compared, Quality, Quantity
    from workload.analysis.cache import HitRates
    from workload.analysis.context import GrowthFit, Physics
    from workload.analysis.dependencies import QuestionPath
    from workload.analysis.engine_effects import EngineEffects
    from workload.analysis.kv_growth import KvGrowth
    from workload.analysis.latency import Ending, HopContext, HopsOfType, NodeTime, Quartiles
    from workload.analysis.levels import Scaling
    from workload.analysis.levels_observed import LevelRow
    from workload.analysis.overlap import Activity
    from workload.analysis.prediction import Prediction
    from workload.analysis.prefetch_accuracy import MeasuredDrafts
    from workload.analysis.prefetch_outcome import DraftOutcomes, ShareOfBound
    from workload.analysis.rate import Rate
    from workload.analysis.spans import Stretches
    from workload.analysis.witnesses import BusySources, GaugeBusy, ServerBusy, StageTime
    from workload.statistics.paired import Interval
    from workload.statistics.percentiles import Percentile


Footprint = dict[Literal["tokens", "blocks", "memory_bytes"], int | float | None]


class Summary(TypedDict, total=False):
    """What the run adds to the summary of any experiment; `accounting` has one entry per measured window."""

    experiment: str
    run: str
    replay_of: str | None
    order: str
    layout: str
    accounting: list[dict[str, Any]]


class LatencySummary(Summary):
    """Experiment 0."""

    questions: int
    answered: int
    latency_seconds: list[Percentile]
    by_node: dict[str, NodeTime]
    hops_by_type: dict[str, HopsOfType]
    endings: dict[str, Ending]
    context_by_hop: dict[str, list[HopContext]]
    quality: dict[str, Quality]


class CachingComparison(Summary):
    """Prefix caching off against on, at one load or over all loads."""

    hit_rate: dict[str, HitRates]
    compared: Compared
    control: str | None
    amdahl: Amdahl
    quality: dict[str, Quality]
    diverged_questions: float | None


class CachingLevel(CachingComparison):
    """The comparison at one concurrency, with the answers per second of each arm."""

    throughput: dict[str, Rate]


class VllmMetricsSummary(CachingComparison):
    """Experiment 4; `levels` is empty where there is one load only."""

    levels: dict[str, CachingLevel]


class ConcurrencySummary(Summary):
    """Experiment 6; `scaling` and `quality` are by arm."""

    levels: list[LevelRow]
    scaling: dict[str, Scaling]
    quality: dict[str, Quality]


class Resources(TypedDict):
    """When each resource was busy; `gpu` is the duty cycle by GPU, or says why it is not known."""

    engine: dict[Literal["busy", "idle"], Stretches]
    retrieval: dict[Literal["busy", "idle"], Stretches]
    gpu: dict[str, dict[Literal["busy_seconds", "busy_share"], float]] | str
    engine_cpu_cores: float | None


class CriticalPaths(TypedDict):
    """The critical paths of a load's questions, and their sums."""

    questions: list[QuestionPath]
    serial_seconds: float
    critical_seconds: float
    longest_seconds: float | None


class PipelineLoad(TypedDict):
    """One load of experiment 3; `activities` are shares of its time."""

    window: dict[str, Any]
    workers: int
    questions: int
    seconds: float
    serial_seconds: float
    resources: Resources
    activities: dict[Activity, float]
    busy_seconds_total: BusySources
    server: ServerBusy
    gauge: GaugeBusy
    stages: dict[str, StageTime]
    critical_path: CriticalPaths
    prefetch: MeasuredDrafts


class PipelineSummary(Summary):
    """Experiment 3."""

    loads: list[PipelineLoad]
    quality: dict[str, Quality]


class MemoryLine(Spread):
    """GPU memory, or the engine's resident memory, in bytes as sampled."""

    resolution_seconds: float | None
    peak: Peak | None


class KvPool(MemoryLine):
    """Bytes of the KV pool in use, as sampled."""

    pool_bytes: float | None
    block_bytes: float | None


class MemoryLoad(TypedDict):
    """One load of experiment 2. `phases` have the spread of every line next to their own numbers.

    `backend` says where GPU samples come from, or why there are none; `nodes` why memory is not attributed to nodes.
    """

    window: dict[str, Any]
    workers: int
    seconds: float
    gpu: str | None
    backend: str
    sampling: dict[str, Sampling]
    memory: dict[str, MemoryLine]
    kv: KvPool
    kv_by_hop: dict[str, KvOfHop]
    fragmentation: Spread
    phases: dict[Phase, Stretches]
    engine_idle: Stretches
    utilization_refresh_seconds: dict[str, float | None]
    nodes: dict[str, dict[str, Spread]] | str


class GpuMemorySummary(Summary):
    """Experiment 2."""

    fragmentation_kind: str
    kv_resident_but_idle: str
    loads: list[MemoryLoad]
    quality: dict[str, Quality]


class Wall(TypedDict, total=False):
    """A length from which calls are slower, wait or fail; a bend has its slope ratio, any other cause its calls."""

    cause: str
    tokens: int | float | None
    slope_ratio: Any
    calls: int


class ContextGrowthSummary(Summary):
    """Experiment 5; fits and the calls' footprints are by arm, `tokens_a_question` is None without an answer."""

    physics: Physics
    prefill: dict[str, GrowthFit]
    decode: dict[str, GrowthFit]
    kv: KvGrowth
    walls: list[Wall]
    context_by_hop: dict[str, list[HopContext]]
    tokens_a_question: Quartiles | None
    footprints: dict[str, list[Footprint]]
    device: bool
    quality: dict[str, Quality]


class Median(TypedDict):
    """The median of `n` questions with its 95 % interval."""

    n: int
    median: float | None
    ci: Interval | None


class MeanChange(TypedDict):
    """The mean paired difference of `n` questions with its 95 % interval."""

    n: int
    mean: float | None
    ci: Interval | None


class ArmValues(TypedDict):
    """One arm of a comparison: its settings and what was measured in it."""

    profile: str
    options: Mapping[str, Any]
    engine: Mapping[str, Any]
    medians: dict[Quantity, Median]
    cache: HitRates
    answer_f1_ci: Interval | None
    prefetch: DraftOutcomes | None
    engine_effects: EngineEffects
    sleep_seconds: dict[str, float] | None


class AbSummary(Summary):
    """A comparison of arms with the `first`; `ranked` are the others, the fastest first."""

    first: str
    arms: dict[str, ArmValues]
    quality: dict[str, Quality]
    compared: dict[str, Compared]
    predicted: dict[str, Prediction]
    control: dict[str, str | None]
    prefetch_of_bound: dict[str, ShareOfBound | None]
    f1_change: dict[str, MeanChange]
    ranked: list[str]
    diverged_questions: float | None
