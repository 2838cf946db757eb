"""Experiment 2: what changes in GPU memory, and in which node and phase?"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from workload.analysis import memory
from workload.analysis.ab import quality, quality_in_words
from workload.analysis.memory import where_of
from workload.analysis.memory_observed import ObservedMemory, observe_memory
from workload.analysis.overlap import busy_union
from workload.analysis.spans import Stretches, describe, measured_loads, pauses
from workload.analysis.wording import ABSENT, Bookkeeping, Caveat, in_ms, number, percent, size
from workload.charts.gpu_memory import draw
from workload.experiment import Arm, Experiment
from workload.record.results import RunData, calls_with_usage, evidence_of

if TYPE_CHECKING:
    from workload.analysis.summaries import GpuMemorySummary, MemoryLine, MemoryLoad
    from workload.analysis.time_series import TimeSeries
    from workload.statistics.paired import Interval

NOT_ATTRIBUTED = "Several workers were active at once, so memory is not attributed to nodes"
BASE = Arm("base", "base")
STANDS_IN = "the engine's resident memory is shown instead of device memory"


def reduce(data: RunData) -> GpuMemorySummary:
    """Return peaks, phases, nodes, hops, fragmentation and sampling quality of each load."""
    evidence = evidence_of(data)
    asked = evidence.settings.load.gpu_interval_ms / 1000
    return {
        "fragmentation_kind": "internal only: with paged attention any free block serves any request",
        "kv_resident_but_idle": "not reported by this engine: blocks kept for reuse count as free",
        "loads": [_describe(observe_memory(evidence, load), asked) for load in measured_loads(data)],
        "quality": {BASE.name: quality(data, BASE.name)},
    }


def _describe(seen: ObservedMemory, asked_seconds: float) -> MemoryLoad:
    load = seen.load
    origin, alone = load.interval[0], len(load.workers) == 1
    credited = load.visits if alone else ()
    generation = busy_union(load.generations, load.interval)
    phases: dict[memory.Phase, list[Interval]] = {
        "retrieval": busy_union(load.retrievals, load.interval),
        "generation": generation,
        "neither": pauses(busy_union([*load.generations, *load.retrievals], load.interval), load.interval),
    }
    lines = {f"gpu {gpu}": line for gpu, line in seen.device.items()} or {"engine process": seen.resident}
    return {
        "window": load.window.as_dict(),
        "workers": len(load.workers),
        "seconds": load.seconds,
        "gpu": ", ".join(filter(None, dict.fromkeys(seen.gpu_names))) or None,
        "backend": seen.backend or (ABSENT if seen.device else f"{seen.without_device}: {STANDS_IN}"),
        "sampling": {
            gpu: memory.sampling(line.times, asked_seconds) for gpu, line in seen.device.items() if len(line.times) > 1
        },
        "memory": {
            name: {
                **memory.spread(line.values),
                "resolution_seconds": line.resolution_seconds,
                "peak": memory.peak(line, credited, origin),
            }
            for name, line in lines.items()
        },
        "kv": {
            "pool_bytes": load.measured.engine["kv_pool_bytes"],
            "block_bytes": load.measured.engine["kv_block_bytes"],
            "resolution_seconds": seen.used.resolution_seconds,
            **memory.spread(seen.used.values),
            "peak": memory.peak(seen.used, credited, origin),
        },
        "kv_by_hop": _hops(seen, alone=alone),
        "fragmentation": _fragmentation(seen, alone=alone),
        "phases": {
            name: cast("Stretches", {**describe(stretches, load.seconds), **_lines(seen, lines, stretches)})
            for name, stretches in phases.items()
        },
        "engine_idle": describe(pauses(generation, load.interval), load.seconds),
        "utilization_refresh_seconds": _refresh(seen),
        "nodes": {name: memory.by_node(line, load.visits) for name, line in {**lines, "kv": seen.used}.items()}
        if alone
        else NOT_ATTRIBUTED,
    }


def _refresh(seen: ObservedMemory) -> dict[str, float | None]:
    """Return how often each GPU's duty cycle is updated: by the driver, else by the samples."""
    return {gpu: seen.refresh_seconds or memory.refresh_seconds(line) for gpu, line in seen.duty.items()}


def _lines(seen: ObservedMemory, lines: dict[str, TimeSeries], stretches: list[Interval]) -> dict[str, memory.Spread]:
    found = {
        name: memory.during(line, stretches, line.resolution_seconds or 0.0)
        for name, line in {**lines, "kv": seen.used}.items()
    }
    for gpu, period in _refresh(seen).items():
        if period is not None:
            # A duty cycle covers the period before it, so only a stretch of two periods contains one of its own.
            found[f"gpu {gpu} utilization"] = memory.during(seen.duty[gpu], stretches, 2 * period, lag=period)
    return found


def _hops(seen: ObservedMemory, *, alone: bool) -> dict[str, memory.KvOfHop]:
    engine = seen.load.measured.engine
    calls = calls_with_usage(seen.load.calls)
    if engine["block_size"] is None or engine["kv_block_bytes"] is None:
        return {}
    return memory.kv_by_hop(calls, seen.used, engine["block_size"], engine["kv_block_bytes"], alone=alone)


def _fragmentation(seen: ObservedMemory, *, alone: bool) -> memory.Spread:
    block_size = seen.load.measured.engine["block_size"]
    calls = calls_with_usage(seen.load.calls)
    if block_size is None:
        return {"n": 0, "why": "the engine does not report its block size"}
    if not alone:
        why = "several calls at once: shared blocks count once, but their tokens count in each call"
        return {"n": 0, "why": why, "expected": memory.expected_fragmentation(calls, block_size)}
    return {
        **memory.fragmentation(seen.blocks, seen.generated, calls, block_size)[1],
        "expected": memory.expected_fragmentation(calls, block_size),
    }


def headline(summary: GpuMemorySummary) -> list[tuple[str, ...]]:
    """Return the rows of the closing table, load by load."""
    return [row for load in summary["loads"] for row in _rows(load)]


def _rows(load: MemoryLoad) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    lines: dict[str, MemoryLine] = {**load["memory"], "KV pool in use": load["kv"]}
    for name, line in lines.items():
        if top := line["peak"]:
            values = f"{line['distinct']} distinct values in {line['n']} samples"
            rows.append((f"{name}: peak", size(top["value"]), f"at {top['seconds']:.1f} s, {where_of(top)}; {values}"))
    rows += [
        (
            f"KV cache of a call at hop {hop}, median",
            size(found["from_usage"]["median"]),
            f"n={found['calls']}, at most {size(found['from_usage']['max'])}, by token counts",
        )
        for hop, found in load["kv_by_hop"].items()
    ]
    empty = load["fragmentation"]
    rows.append(
        (
            "Internal fragmentation, mean",
            percent(empty.get("mean")),
            f"n={empty['n']}; token counts predict {percent(empty.get('expected'))}",
        )
    )
    rows += [
        (f"Time in {phase}", percent(time["share"]), f"{time['seconds']:.2f} s of {load['seconds']:.1f} s")
        for phase, time in load["phases"].items()
    ]
    idle = load["engine_idle"]
    rows.append(
        ("Engine idle", percent(idle["share"]), f"{idle['count']} pauses, longest {idle['longest_seconds']:.2f} s")
    )
    return rows


def verdicts(summary: GpuMemorySummary) -> list[str]:
    """Return what changes and when, and what a reader must know before using the numbers."""
    sentences = [_of_load(load) for load in summary["loads"]]
    sentences.append("Fragmentation is " + summary["fragmentation_kind"] + ".")
    for load in summary["loads"]:
        if not load["sampling"]:
            sentences.append(load["backend"] + ".")
        for gpu, found in load["sampling"].items():
            source = "REPLAYED trace" if load["backend"] == "replay" else "NVML"
            sentences.append(
                Bookkeeping(
                    f"GPU {gpu} ({source}): {found['samples']} samples at {number(found['rate_hertz'])} Hz, gaps p50 "
                    f"{1000 * found['gap_p50_seconds']:.1f}, p99 {in_ms(found['gap_p99_seconds'])}, "
                    f"longest {1000 * found['gap_max_seconds']:.1f} ms."
                )
            )
            if not found["matches"]:
                sentences.append(Caveat(_of_other_interval(gpu, found)))
        if isinstance(load["nodes"], str):
            sentences.append(load["nodes"] + ".")
    return [*sentences, quality_in_words(summary["quality"])]


def _of_other_interval(gpu: str, found: memory.Sampling) -> str:
    """Return a warning for samples at another interval: the load is measured, but short peaks are not."""
    return (
        f"GPU {gpu} was sampled every {1000 * found['gap_p50_seconds']:.3g} ms, "
        f"NOT every {1000 * found['asked_seconds']:g} ms as requested, so shorter peaks do not show. "
        "Request an interval that the exporter can keep with --sample-interval, or free its CPU."
    )


def _of_load(load: MemoryLoad) -> str:
    top, pool = load["kv"]["peak"], load["kv"]["pool_bytes"]
    parts = ["The usage of the KV pool was not scraped"]
    if top:
        of_pool = f" of {size(pool)}" if pool else ""
        parts = [f"KV pool usage peaks at {size(top['value'])}{of_pool} after {top['seconds']:.1f} s, {where_of(top)}"]
    parts += [
        f"{name}: {line['distinct']} distinct values in {line['n']} samples"
        for name, line in load["memory"].items()
        if line["peak"]
    ]
    return "; ".join([*parts, f"the engine is idle for {percent(load['engine_idle']['share'])} of the time"]) + "."


GPU_MEMORY = Experiment(
    name="gpu-memory",
    folder="gpu_memory",
    title="What moves in GPU memory, and when?",
    arms=(BASE,),
    draw=draw,
    reduce=reduce,
    headline=headline,
    columns=("", "value", "where, and how known"),
    verdicts=verdicts,
    limit=5,
    sampled="gpu",
    summary_file="memory_analysis.json",
)
