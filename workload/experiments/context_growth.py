"""Experiment 5: how do time and memory grow with the context? The agent's own calls and a controlled sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.analysis import latency
from workload.analysis.ab import quality, quality_in_words
from workload.analysis.context import GrowthFit, decode_points, growth_of, onset, physics_of, prefill_points
from workload.analysis.kv_growth import KvGrowth, kv_growth
from workload.analysis.memory_of_calls import CallMemory, memory_of_calls
from workload.analysis.wording import number, percent
from workload.charts.canvas import duration
from workload.charts.context_growth import draw
from workload.experiment import Arm, Experiment, Point
from workload.theory.physics import read_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.summaries import ContextGrowthSummary, Footprint, Wall
    from workload.record.results import RunData
    from workload.settings import LoadSettings

# Up to the arm's context limit; the last length exceeds it with question and reply, and is refused.
LENGTHS = (512, 1024, 2048, 3072, 4096, 5120, 6144, 7680, 8704)
MAX_ROUNDS = 3


def sweep_points(load: LoadSettings) -> tuple[Point, ...]:
    """Return the sweep: each length once per round, alternating up and down so that drift does not look like growth.

    There is one round, and one more for every ten questions.
    """
    lengths = sorted(load.contexts or LENGTHS)
    rounds = min(MAX_ROUNDS, 1 + load.limit // 10)
    order = (length for number in range(rounds) for length in (reversed(lengths) if number % 2 else lengths))
    return (Point("sweep", 1, contexts=tuple(order)),)


# The sweep runs without caching, so that each length is fully computed; the agent runs with its usual flags.
AGENT = Arm("context-8192", "context-8192")
SWEEP = Arm("sweep", "context-8192-off", points=sweep_points)


def reduce(data: RunData) -> ContextGrowthSummary:
    """Return the growth of prefill and decode, the KV cache's bytes per token, the walls, and the tokens by hop."""
    engine = data.measured[-1].engine  # of the sweep, whose blocks are counted
    physics = physics_of(read_config(engine.get("model_path")))
    agent, swept = data.calls_of(AGENT.name), data.calls_of(SWEEP.name)
    prints = {arm.name: memory_of_calls(data, arm.name) for arm in (AGENT, SWEEP)}
    arms = {AGENT.name: agent, SWEEP.name: swept}
    prefill = {arm: growth_of(prefill_points(calls), physics) for arm, calls in arms.items()}
    decode = {arm: growth_of(decode_points(calls)) for arm, calls in arms.items()}
    used = [one.kv_use for one in prints[SWEEP.name] if one.kv_use]
    sums = [rows[-1][1] for rows in latency.accumulated(agent).values()]
    return {
        "physics": physics,
        "prefill": prefill,
        "decode": decode,
        "kv": kv_growth(used, engine, physics.get("kv_bytes_per_token")),
        "walls": walls(
            {"prefill": prefill[SWEEP.name], "decode": decode[SWEEP.name]},
            data,
            [*prints[AGENT.name], *prints[SWEEP.name]],
        ),
        "context_by_hop": latency.context_by_hop(agent),
        "tokens_a_question": latency.quartiles(sums) if sums else None,
        "footprints": {arm: [_row(one) for one in found] for arm, found in prints.items()},
        "device": bool(data.evidence and data.evidence.gpu_samples(data.measured[0])),
        "quality": {AGENT.name: quality(data, AGENT.name)},
    }


def walls(growth: Mapping[str, GrowthFit], data: RunData, prints: Sequence[CallMemory]) -> list[Wall]:
    """Return each wall by its cause, with the tokens at which it stands; `growth` is that of the sweep, by part."""
    calls = [one.call for one in prints]
    found: list[Wall] = [
        {"cause": f"{part} bends", "tokens": ratio["knot_tokens"], "slope_ratio": ratio}
        for part, fit in growth.items()
        if fit.get("is_wall") and (ratio := fit["slope_ratio"])
    ]
    for cause, affected in (
        ("preemption", [one.is_preempted for one in prints]),
        ("queueing", [one.is_queued for one in prints]),
    ):
        if (tokens := onset(calls, affected)) is not None:
            found.append({"cause": cause, "tokens": tokens, "calls": sum(affected)})
    if refused := [call for call in data.calls if call["reason"] == "context_too_long"]:
        limit = data.measured[0].engine.get("max_model_len")
        found.append({"cause": "max_model_len", "tokens": limit, "calls": len(refused)})
    return found


def headline(summary: ContextGrowthSummary) -> list[tuple[str, ...]]:
    """Return the rows of the closing table: quantity, agent, sweep."""
    rows: list[tuple[str, ...]] = []
    for part, by_arm in (("prefill", summary["prefill"]), ("decode", summary["decode"])):
        fits = [by_arm[arm.name] for arm in (AGENT, SWEEP)]
        rows += [
            (f"{part}: calls, longest context", *(f"{fit['calls']}, {_longest(fit)}" for fit in fits)),
            (f"{part}: shape", *(fit.get("shape", "too few calls") for fit in fits)),
            (f"{part}: n² over n at the longest", *(_share(fit) for fit in fits)),
        ]
    fits = [summary["prefill"][arm.name] for arm in (AGENT, SWEEP)]
    rows.append(("... expected by the config", *(percent(fit.get("expected_quadratic_share")) for fit in fits)))
    rows.append(("... power to detect it", *(percent(fit.get("power")) for fit in fits)))
    kv = summary["kv"]
    rows.append(("KV bytes per token, counted", "", number(kv["slope_bytes_per_token"])))
    rows.append(("... by the pool's capacity", "", number(kv["capacity_bytes_per_token"])))
    rows.append(("... by the config", "", number(kv["expected_bytes_per_token"])))
    return rows


def verdicts(summary: ContextGrowthSummary) -> list[str]:
    """Return how prefill, decode and the KV cache grow, and every wall by its cause."""
    prefill, decode, kv = summary["prefill"][SWEEP.name], summary["decode"][SWEEP.name], summary["kv"]
    sentences = [f"Prefill of the sweep: {growth_in_words(prefill)}."]
    if (expected := prefill.get("expected_quadratic_share")) is not None:
        sentences.append(
            f"The model's config predicts {percent(expected)} at that length; calls like these would show it with "
            f"probability {percent(prefill['power'])}."
        )
    elif "unknown" in summary["physics"]:
        sentences.append(f"The model's config allows no prediction: {summary['physics']['unknown']}")
    sentences.append(f"Prefill of the agent's own calls: {growth_in_words(summary['prefill'][AGENT.name])}.")
    sentences.append(f"Decode of the sweep, per token: {growth_in_words(decode)}.")
    sentences.append(kv_in_words(kv))
    found = [f"{wall['cause']} at {number(wall['tokens'])} tokens" for wall in summary["walls"]]
    sentences.append(f"Walls: {'; '.join(found) or 'none found'}.")
    return [*sentences, quality_in_words(summary["quality"])]


def kv_in_words(kv: KvGrowth) -> str:
    """Return whether the KV cache grows as the config predicts, and by which sources."""
    counted = f"{number(kv['slope_bytes_per_token'])} bytes per token counted in {kv['calls']} calls"
    config = f"{number(kv['expected_bytes_per_token'])} by the config"
    if kv["is_within"] is not None:
        word = "agree within 2 %" if kv["is_within"] else "DISAGREE by more than 2 %"
        return f"KV cache: {counted}, {number(kv['capacity_bytes_per_token'])} by the pool, {config}: they {word}."
    if kv["slope_bytes_per_token"] and not kv["pool_is_told"]:
        return (
            f"KV cache: {counted}, {config}. Blocks were counted, but their size comes from the config, because "
            "this engine does not report its pool's bytes: the growth in bytes is not confirmed."
        )
    return f"The KV cache's growth is not confirmed: only {kv['calls']} calls took 50 blocks or more."


def growth_in_words(fit: GrowthFit) -> str:
    """Return what a fit says about the growth, and how certain it is."""
    if "unknown" in fit or fit.get("quadratic_share_ci") is None:
        return f"not known ({fit['calls']} calls of {fit['lengths']} lengths)"
    word = "superlinear" if fit["is_superlinear"] else "no curvature detected"
    pairs = zip(fit["seconds"], fit["tokens"], strict=True)
    ends = " to ".join(f"{duration(seconds)} at {number(tokens)}" for seconds, tokens in pairs)
    return f"{fit['shape']}, {ends} tokens; {word}: n² is {_share(fit)} of n"


def _share(fit: GrowthFit) -> str:
    if fit.get("quadratic_share_ci") is None:
        return "not known"
    low, high = (percent(bound) if bound is not None else "no bound" for bound in fit["quadratic_share_ci"])
    return f"{percent(fit['quadratic_share'])} [{low}, {high}]"


def _longest(fit: GrowthFit) -> str:
    return f"{number(fit['tokens'][1])} tokens" if "tokens" in fit else "no length"


def _row(one: CallMemory) -> Footprint:
    tokens = one.kv_use.tokens if one.kv_use else None
    return {"tokens": tokens, "blocks": one.blocks, "memory_bytes": one.memory_bytes}


CONTEXT_GROWTH = Experiment(
    name="context-growth",
    folder="context_growth",
    title="How do time and memory grow with the context?",
    arms=(AGENT, SWEEP),
    reduce=reduce,
    draw=draw,
    headline=headline,
    columns=("", AGENT.name, SWEEP.name),
    verdicts=verdicts,
    limit=20,
    max_hops=5,
    summary_file="context_growth.json",
)
