"""The `hop2rag_*` instruments: every metric of the agent is declared here and nowhere else.

The process that runs the agent serves them, because a node visit of a millisecond cannot be seen from outside. Labels
come from closed sets given at construction; a value outside its set is counted as `other`, so a runaway name cannot
grow the number of series. The ids of questions are in the run's journal, never in a label.

Histograms of time observe successes only: a refusal takes microseconds and a time-out takes its limit, and neither is a
latency. The number of attempts is the histogram's count plus the counter of failures.
"""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client.metrics import MetricWrapperBase

OTHER = "other"
HOPS = ("1", "2", "3", "4", "5+")
QUESTION_TYPES = ("bridge", "comparison")
OUTCOMES = ("ok", "failed", "cancelled")
TERMINATIONS = ("done", "enough", "max_hops", "error")
STAGES = ("embed", "search", "rerank")
PREFETCH_OUTCOMES = ("used", "wrong", "unneeded")
TOKEN_FATES = ("hit", "tail", "cold", "elsewhere", "evicted", "reset", "flight", "salt", "behind", "unknown")
CHAIN = ("prompt", "bound", "in_fleet", "on_engine", "delivered")
ERROR_REASONS = (
    "cancelled",
    "connection",
    "context_too_long",
    "overloaded",
    "oversized",
    "server_error",
    "rejected",
    "stream_cut",
    "timeout",
)

# Node visits take 0.1 ms (accumulate) up to two calls that each end just before the time-out of 120 s (a reply that is
# not JSON is requested again).
NODE_BUCKETS = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240)
# A question takes from half a second on a GPU to ten calls near the time-out on a CPU.
QUESTION_BUCKETS = (0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600, 1200)
# From a cached prefix on a GPU (10 ms) to a full context prefilled on a CPU, up to the time-out of a call.
TTFT_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120)
# Embedding a query takes about 10 ms, searching a local store 1 to 20 ms, BM25 over ten passages less than 1 ms.
RETRIEVAL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5)
# Prompts range from a bare question (tens of tokens) to the context limit of a model.
TOKEN_BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
HOP_BUCKETS = (0, 1, 2, 3, 4, 5)


def hop_label(hop: int) -> str:
    """Return the `hop` label of a hop number, counted from 1; hops from 5 on share one series."""
    return HOPS[min(max(hop, 1), len(HOPS)) - 1]


class EngineFamilies(Collector):
    """Facts that are read from the engine once per arm; an unknown fact has no series.

    Attributes:
        version: the vLLM version.
        kv_pool_bytes, kv_block_bytes: size of the KV cache pool and of one block in it, in bytes.
    """

    version: str | None = None
    kv_pool_bytes: float | None = None
    kv_block_bytes: float | None = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Yield a family for each known fact."""
        if self.version is not None:
            info = GaugeMetricFamily(
                "hop2rag_vllm_info", "The vLLM version the agent talks to; always 1.", labels=["version"]
            )
            info.add_metric([self.version], 1)
            yield info
        for name, value, text in (
            ("hop2rag_vllm_kv_pool_bytes", self.kv_pool_bytes, "Size of the engine's KV cache pool."),
            ("hop2rag_vllm_kv_block_bytes", self.kv_block_bytes, "Size of one block of the engine's KV cache."),
        ):
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)


def metering_failures(registry: CollectorRegistry | None) -> Counter:
    """Return the counter of events that could not be metered: such failures must not reach the app."""
    return Counter(
        "hop2rag_metering_failures_total",
        "Events of the agent that could not be metered; the agent continued, but its figures lack them.",
        registry=registry,
    )


def waiting_family(questions: int) -> GaugeMetricFamily:
    """Return the gauge of questions that wait for a person."""
    text = "Questions that wait for a person at an interrupt; hop2rag_questions_total counts them once they have ended."
    return GaugeMetricFamily("hop2rag_questions_waiting", text, value=questions)


class AgentMetrics:
    """The instruments of one agent process.

    Args:
        llm_nodes: the nodes that call the language model; only they get token and latency series.
    """

    def __init__(self, registry: CollectorRegistry, nodes: Sequence[str], llm_nodes: Sequence[str]) -> None:
        self._nodes = frozenset(nodes)
        self._llm_nodes = frozenset(llm_nodes)
        self._expected: dict[Counter, tuple[Sequence[str], ...]] = {}
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        self.node_duration = histogram(
            "hop2rag_node_duration_seconds",
            "Time of one successful visit of a graph node, from its real start to its real end.",
            ["node"],
            buckets=NODE_BUCKETS,
        )
        self.node_active = Gauge("hop2rag_node_active", "Visits of a node in progress.", ["node"], registry=registry)
        self.node_failures = counter(
            "hop2rag_node_failures_total",
            "Visits of a graph node that failed or were cancelled; hop2rag_node_duration_seconds excludes them.",
            ["node"],
        )
        self.question_duration = histogram(
            "hop2rag_question_duration_seconds",
            "Time of one answered question, from its intended start to its end.",
            buckets=QUESTION_BUCKETS,
        )
        self.questions = counter(
            "hop2rag_questions_total",
            "Questions that ended, by outcome and by what ended the loop.",
            ["outcome", "termination"],
        )
        self.hops = histogram("hop2rag_hops", "Hops of one question.", ["type"], buckets=HOP_BUCKETS)
        self.llm_call_duration = histogram(
            "hop2rag_llm_call_duration_seconds",
            "Time of one successful LLM call, as the client sees it, to the end of the stream.",
            ["node"],
            buckets=NODE_BUCKETS,
        )
        self.llm_ttft = histogram(
            "hop2rag_llm_time_to_first_token_seconds",
            "Time from sending a successful LLM call to its first token, as the client sees it.",
            ["node"],
            buckets=TTFT_BUCKETS,
        )
        self.llm_first_answer = histogram(
            "hop2rag_llm_time_to_first_answer_token_seconds",
            "Time from sending a successful LLM call that reasons to the first token of its answer.",
            ["node"],
            buckets=TTFT_BUCKETS,
        )
        self.prompt_tokens = counter(
            "hop2rag_prompt_tokens_total", "Prompt tokens, from the server's usage.", ["node", "hop"]
        )
        self.cached_prompt_tokens = counter(
            "hop2rag_cached_prompt_tokens_total",
            "Prompt tokens that the server took from its prefix cache (usage.prompt_tokens_details.cached_tokens).",
            ["node", "hop"],
        )
        self.reusable_prompt_tokens = counter(
            "hop2rag_reusable_prompt_tokens_total",
            "Prompt tokens that a prefix cache without eviction could serve: whole blocks seen in earlier calls.",
            ["node", "hop"],
        )
        self.prompt_token_fates = counter(
            "hop2rag_prompt_token_fate_total",
            "Prompt tokens by fate: taken from the prefix cache, or why they were computed. Each has exactly one.",
            ["node", "hop", "fate"],
        )
        self.findable_prompt_tokens = counter(
            "hop2rag_findable_prompt_tokens_total",
            "Prompt tokens that could be hits, from the most to those that were, of calls for which all is known.",
            ["node", "hop", "place"],
        )
        self.completion_tokens = counter(
            "hop2rag_completion_tokens_total", "Generated tokens, from the server's usage.", ["node", "hop"]
        )
        self.prompt_size = histogram(
            # not hop2rag_prompt_tokens: OpenMetrics knows the counter hop2rag_prompt_tokens_total by that family name
            "hop2rag_llm_call_prompt_tokens",
            "Prompt tokens of one LLM call.",
            ["node", "hop"],
            buckets=TOKEN_BUCKETS,
        )
        self.retrieval_duration = histogram(
            "hop2rag_retrieval_duration_seconds",
            "Time of one successful stage of retrieval.",
            ["stage"],
            buckets=RETRIEVAL_BUCKETS,
        )
        self.retrieval_failures = counter(
            "hop2rag_retrieval_failures_total",
            "Stages of retrieval that failed or were cancelled; hop2rag_retrieval_duration_seconds excludes them.",
            ["stage"],
        )
        self.prefetches = counter(
            "hop2rag_prefetches_total", "Retrievals for a draft of the next query, by outcome.", ["outcome"]
        )
        self.prefetch_seconds = counter(
            "hop2rag_prefetch_seconds_total",
            "Time of retrievals for a draft, by outcome; all but `used` is wasted.",
            ["outcome"],
        )
        self.llm_errors = counter(
            "hop2rag_llm_errors_total",
            "LLM calls that failed, by reason; hop2rag_llm_call_duration_seconds excludes them.",
            ["node", "reason"],
        )
        self.llm_retries = counter(
            "hop2rag_llm_retries_total",
            "LLM calls that were sent again after the server refused them because of load (429 or 503).",
            ["node"],
        )
        self.json_repairs = counter(
            "hop2rag_json_repairs_total",
            "LLM replies that were not the requested JSON, and were requested again.",
            ["node"],
        )
        self.calls_without_usage = counter(
            "hop2rag_llm_calls_without_usage_total",
            "Successful LLM calls whose tokens are unknown, because the response has no usage.",
            ["node"],
        )
        self.engine = EngineFamilies()
        registry.register(self.engine)
        self._start_at_zero(nodes, llm_nodes)

    def _start_at_zero(self, nodes: Sequence[str], llm_nodes: Sequence[str]) -> None:
        """Create every series of the closed sets, so that a rate includes the first event."""
        per_call = (self.prompt_tokens, self.completion_tokens, self.prompt_size)
        closed_sets: tuple[tuple[tuple[MetricWrapperBase, ...], tuple[Sequence[str], ...]], ...] = (
            ((self.node_duration, self.node_failures, self.node_active), (nodes,)),
            ((self.llm_call_duration, self.llm_ttft, self.llm_retries, self.json_repairs), (llm_nodes,)),
            ((self.llm_errors,), (llm_nodes, ERROR_REASONS)),
            (per_call, (llm_nodes, HOPS)),
            ((self.questions,), (OUTCOMES, TERMINATIONS)),
            ((self.hops,), (QUESTION_TYPES,)),
            ((self.retrieval_duration, self.retrieval_failures), (STAGES,)),
            ((self.prefetches, self.prefetch_seconds), (PREFETCH_OUTCOMES,)),
        )
        for instruments, label_sets in closed_sets:
            for instrument, labels in product(instruments, product(*label_sets)):
                instrument.labels(*labels)

    def expect(self, counter: Counter) -> None:
        """Create all series of the cached or the reusable tokens at zero, once the server is known to report them.

        Until then they are absent: a server that does not report hits is not a server without hits. Calling this again
        changes nothing.
        """
        self._expect(counter)

    def expect_fates(self) -> None:
        """Create all series of the fates of prompt tokens at zero, once a ledger is kept."""
        self._expect(self.prompt_token_fates, TOKEN_FATES)
        self._expect(self.findable_prompt_tokens, CHAIN)

    def _expect(self, counter: Counter, *values: Sequence[str]) -> None:
        if counter not in self._expected:
            self._expected[counter] = values
            for call in self._known_calls():
                for further in product(*values):
                    counter.labels(*call, *further)

    def _known_calls(self) -> Iterable[tuple[str, str]]:
        """Return the labels `node` and `hop` of the calls whose series exist."""
        return product(self._llm_nodes, HOPS)

    def node(self, name: str) -> str:
        """Return the `node` label of a node name: the name, or `other` if it is not a node of the graph."""
        return name if name in self._nodes else OTHER

    def llm_node(self, name: str) -> str:
        """Return the `node` label of an LLM node: the name, or `other`."""
        return name if name in self._llm_nodes else OTHER

    def call(self, node: str, hop: int) -> tuple[str, str]:
        """Return the labels `node` and `hop` of an LLM call that starts."""
        return self.llm_node(node), hop_label(hop)

    def stage(self, name: str) -> str:
        """Return the label `stage` of a stage of retrieval that starts, one of `STAGES`."""
        return name


def closed(value: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is allowed, else `other`."""
    return value if value in allowed else OTHER
