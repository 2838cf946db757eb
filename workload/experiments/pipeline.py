"""Experiment 3: how much do retrieval and generation overlap, and what could prefetch save?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal, cast

from workload.analysis.ab import quality, quality_in_words
from workload.analysis.dependencies import paths_of
from workload.analysis.overlap import Activity, Span, busy_union, serial_seconds
from workload.analysis.prefetch_accuracy import DraftSource, measure_drafts
from workload.analysis.spans import MeasuredLoad, Stretches, describe, measured_loads, pauses
from workload.analysis.time_series import summed
from workload.analysis.witnesses import against_counter, against_gauge, against_server, stages_during_generation
from workload.analysis.wording import Bookkeeping, Caveat, number, percent, speedup
from workload.charts.pipeline import draw
from workload.experiment import Arm, Experiment
from workload.promql import pipeline as queries
from workload.record.results import RunData, evidence_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from workload.analysis.summaries import PipelineLoad, PipelineSummary
    from workload.analysis.witnesses import GaugeBusy, ServerBusy
    from workload.record.evidence import Evidence
    from workload.services.prometheus import Sample

BASE = Arm("base", "base")
UNKNOWN_GPU = "GPU unknown: the exporter cannot tell which GPU the engine uses"


def reduce(data: RunData) -> PipelineSummary:
    """Return each load's busy and idle time by resource, its overlap, critical paths and prefetch bound."""
    evidence = evidence_of(data)
    loads = [_describe(evidence, load) for load in measured_loads(data)]
    return {"loads": loads, "quality": {BASE.name: quality(data, BASE.name)}}


def _describe(evidence: Evidence, load: MeasuredLoad) -> PipelineLoad:
    window = load.window
    increases = partial(evidence.increases, window=window)
    counted = cast("dict[Activity, float]", _by("activity", increases(queries.BUSY_SECONDS, job="workload")))
    running = evidence.stored(queries.REQUESTS_RUNNING, window, job=queries.FAST_JOB)
    by_gpu = _by("gpu", increases(queries.GPU_BUSY_SECONDS, job="exporter"))
    cpu_seconds = _total(increases(queries.PROCESS_CPU_SECONDS, job="exporter", role="engine"))
    length = window.end - window.start
    served = evidence.served_gpus(load.measured, by_gpu)
    gpu_seconds = {gpu: seconds for gpu, seconds in by_gpu.items() if gpu in served}
    paths = paths_of(load.questions, load.visits, load.stages)
    both = against_counter(load, counted)
    return {
        "window": window.as_dict(),
        "workers": len(load.workers),
        "questions": len(load.questions),
        "seconds": load.seconds,
        "serial_seconds": serial_seconds([*load.retrievals, *load.generations]),
        "resources": {
            "engine": _busy_and_idle(load, load.generations),
            "retrieval": _busy_and_idle(load, load.retrievals),
            "gpu": {
                gpu: {"busy_seconds": seconds, "busy_share": seconds / length} for gpu, seconds in gpu_seconds.items()
            }
            or (f"{UNKNOWN_GPU} ({', '.join(by_gpu)})" if by_gpu else "No GPU was found"),
            "engine_cpu_cores": cpu_seconds / length if cpu_seconds is not None else None,
        },
        "activities": {name: seconds / load.seconds for name, seconds in both["spans"].items()},
        "busy_seconds_total": both,
        "server": against_server(load, counted, _total(increases(queries.REQUEST_SECONDS, job="vllm"))),
        "gauge": against_gauge(load, summed(running)),
        "stages": stages_during_generation(load),
        "critical_path": {
            "questions": paths,
            "serial_seconds": sum(path["serial_seconds"] for path in paths),
            "critical_seconds": sum(path["critical_seconds"] for path in paths),
            "longest_seconds": max((path["critical_seconds"] for path in paths), default=None),
        },
        "prefetch": measure_drafts(evidence, load, shares_cpu=not by_gpu),
    }


def _by(label: str, found: Iterable[Sample]) -> dict[str, float]:
    return {sample.labels[label]: sample.value for sample in found}


def _total(found: Sequence[Sample]) -> float | None:
    return sum(sample.value for sample in found) if found else None


def _busy_and_idle(load: MeasuredLoad, spans: Iterable[Span]) -> dict[Literal["busy", "idle"], Stretches]:
    busy = busy_union(spans, load.interval)
    return {"busy": describe(busy, load.seconds), "idle": describe(pauses(busy, load.interval), load.seconds)}


def headline(summary: PipelineSummary) -> list[tuple[str, ...]]:
    """Return the rows of the closing table, load by load."""
    return [row for load in summary["loads"] for row in _rows(load)]


def _rows(load: PipelineLoad) -> list[tuple[str, ...]]:
    resources, server, path = load["resources"], load["server"], load["critical_path"]
    rows: list[tuple[str, ...]] = [
        (
            f"{name.capitalize()} busy",
            percent(resources[name]["busy"]["share"]),
            f"{resources[name]['busy']['seconds']:.2f} s of {load['seconds']:.1f} s, by spans",
        )
        for name in ("engine", "retrieval")
    ]
    rows += [
        (
            "Retrieval and generation at once",
            percent(load["activities"]["both"]),
            f"neither runs for {percent(load['activities']['neither'])} of the time",
        ),
        (
            "Engine, by the server's own latencies",
            number(server["server_requests_in_flight"]),
            f"requests in flight; spans: {number(server['spans_requests_in_flight'])}",
        ),
        (
            "Critical path within a question",
            percent(path["critical_seconds"] / path["serial_seconds"] if path["serial_seconds"] else None),
            f"of {path['serial_seconds']:.1f} s of steps, by what each step depends on",
        ),
    ]
    return rows + [(f"Prefetch from {name}", *_saving(source)) for name, source in load["prefetch"]["sources"].items()]


def _saving(source: DraftSource) -> tuple[str, str]:
    ceiling = f"at most {source['ceiling_seconds']:.2f} s if every draft were right"
    accuracy, bound = source["accuracy"], source["bound"]
    if bound is None or isinstance(accuracy, str):
        return f"P {str(accuracy).partition(':')[0]}", ceiling
    value = f"{bound['measured']['seconds']:+.2f} s, {speedup(bound['measured']['speedup'])}"
    low, high = accuracy["ci"]
    return value, (
        f"P = {accuracy['right']} of {accuracy['hops']} [{percent(low)}, {percent(high)}], with the same text "
        f"{source['same_text']['right']}; {ceiling}"
    )


def verdicts(summary: PipelineSummary) -> list[str]:
    """Return how much overlaps, what prefetch could save, and what a reader must know before using the numbers."""
    sentences: list[str] = []
    for load in summary["loads"]:
        sentences += [_of_overlap(load), _of_prefetch(load)]
        agree = {True: "agrees with the spans within 1 %", False: "DISAGREES with the spans", None: "was not scraped"}
        counter = f"hop2rag_busy_seconds_total {agree[load['busy_seconds_total']['within_1_percent']]}."
        checks = (counter, _of_server(load["server"]), _of_gauge(load["gauge"]))
        sentences += map(Bookkeeping, checks)
        prefetch = load["prefetch"]
        if prefetch["repeatable"] is None:
            sentences.append(
                Caveat("Draft accuracy P was not measured, because it needs the texts: run with --record-prompts.")
            )
        elif not prefetch["repeatable"]:
            sentences.append(Caveat("The same query found other documents the second time, so P is not reliable."))
        if isinstance(load["resources"]["gpu"], str):
            sentences.append(load["resources"]["gpu"] + ": the engine's busy share is a share of time, not of a GPU.")
    return [*sentences, quality_in_words(summary["quality"])]


def _of_overlap(load: PipelineLoad) -> str:
    engine, retrieval = (load["resources"][name]["busy"]["share"] for name in ("engine", "retrieval"))
    return (
        f"Retrieval and generation overlap for {percent(load['activities']['both'])} of the time; the engine is "
        f"busy for {percent(engine)} of it, retrieval for {percent(retrieval)} (n={load['questions']} "
        f"questions, at most {load['workers']} at a time)."
    )


def _of_prefetch(load: PipelineLoad) -> str:
    sources, serial = load["prefetch"]["sources"], load["critical_path"]["serial_seconds"]
    ceiling = max(source["ceiling_seconds"] for source in sources.values())
    most = f"Prefetch saves at most {ceiling:.2f} s of {serial:.1f} s, if every draft were right"
    measured = {name: source["bound"]["measured"] for name, source in sources.items() if source["bound"]}
    best = max(measured, key=lambda name: measured[name]["seconds"], default=None)
    if best is None or isinstance(accuracy := sources[best]["accuracy"], str):
        return f"{most}."
    return (
        f"{most}; at the measured accuracy the best source of drafts ({best}, right in {accuracy['right']} of "
        f"{accuracy['hops']}) allows a speed-up of {speedup(measured[best]['speedup'])}."
    )


def _of_server(server: ServerBusy) -> str:
    spans, counter = server["spans_to_server"]["points"], server["counter_to_server"]["points"]
    more = f", hop2rag_busy_seconds_total {number(counter)} points" if counter is not None else ""
    cut = server["cut_requests_in_flight"]
    unknown = (
        f"; up to {number(100 * cut)} points come from calls that were cut, which a server may not count" if cut else ""
    )
    return f"Call spans and the server's own latencies differ by {number(spans)} points{more}{unknown}."


def _of_gauge(gauge: GaugeBusy) -> str:
    return (
        f"The gauge of running requests, scraped every {number(gauge['resolution_seconds'])} s, shows "
        f"{percent(gauge['share'])} busy because it misses prefill; outside prefill it differs from the spans by "
        f"{number(gauge['to_spans']['points'])} points."
    )


PIPELINE = Experiment(
    name="pipeline",
    folder="pipeline",
    title="How much do retrieval and generation overlap?",
    arms=(BASE,),
    draw=draw,
    reduce=reduce,
    headline=headline,
    columns=("", "value", "how known"),
    verdicts=verdicts,
    limit=10,
    summary_file="overlap_analysis.json",
)
