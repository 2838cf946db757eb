"""The bounds of the engine's alerts, from both sides."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from tests.prometheus.test_alert_bounds import AGENT, Case, shipped, write_suites
from workload.promql.selectors import selector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


TARGET = {"job": "vllm", "instance": "h:8000", "run": "r", "experiment": "e", "arm": "a"}
OF_TARGET = 'severity!="page",instance!=""'
UP, INFO = selector("up", TARGET), f'hop2rag_vllm_info{{{AGENT},version="0.32.0"}}'
ACTIVE = f'hop2rag_node_active{{{AGENT},node="decide"}}'


def engine(metric: str, **labels: str) -> str:
    """Return a series of vLLM; the labels tell one engine, model or process from another."""
    return selector(f"vllm:{metric}", {**TARGET, "model_name": "m", "engine": "0", **labels})


def queue(values: str, **labels: str) -> dict[str, str]:
    """Return the series of waiting requests."""
    return {engine("num_requests_waiting", **labels): values}


def requests(running: str, waiting: str, written: str, read: str, **labels: str) -> dict[str, str]:
    """Return the series of requests and tokens of one engine."""
    metrics = ("num_requests_running", "num_requests_waiting", "generation_tokens_total", "prompt_tokens_total")
    values = (running, waiting, written, read)
    return {engine(name, **labels): each for name, each in zip(metrics, values, strict=True)}


def down() -> Iterable[Case]:
    """Yield the cases of VllmDown."""
    name = "VllmDown"
    leaves = {UP: "1x60 _x640"}
    yield Case(
        name,
        "left the targets, for five minutes",
        leaves | {INFO: "1x700"},
        (73, 380),
        (80, 350),
        labels=OF_TARGET,
    )
    yield Case(name, "a gap of 12 s in the scrapes", {UP: "1x100 _x12 1x100", INFO: "1x220"}, silent=(110, 113))
    yield Case(name, "a gap of 8 s in the agent's", leaves | {INFO: "1x72 _x8 1x100"}, firing=(79,))
    yield Case(name, "the agent ends too", leaves | {INFO: "1x65 _x100"}, silent=(72, 78, 85))


def hung() -> Iterable[Case]:
    """Yield the cases of VllmHung: each part of its condition alone becomes true last."""
    name, none, ends = "VllmHung", "0x300", "0+5x100 500x200"
    for what, written, read in (("written", ends, none), ("read", none, ends)):
        yield Case(name, f"the last token {what} 40 s ago", requests("1x300", none, written, read), (143,), (149, 290))
        nothing = requests(none, none, written, read)
        yield Case(name, f"the agent waits, no token {what}", nothing | {ACTIVE: "1x300"}, (142,), (149, 290))
    begins = "0x99 1x200"
    yield Case(name, "one request that began to run", requests(begins, none, none, none), (133,), (138,))
    yield Case(name, "one request that began to wait", requests(none, begins, none, none), (133,), (138,))
    yield Case(name, "one visit that began", requests(none, none, none, none) | {ACTIVE: begins}, (133,), (138,))
    starts = {series: f"_x100 {values}" for series, values in requests(none, none, none, none).items()}
    yield Case(name, "a server that starts", starts | {ACTIVE: "1x300"}, (134,), (139,))
    yield Case(name, "nothing asks", requests(none, none, none, none) | {ACTIVE: none}, silent=(200,))
    stuck, works = requests("1x300", none, none, none), ("1x300", none, "0+5x300", "0+5x300")
    yield Case(name, "two ranks hang", stuck | requests("1x300", none, none, none, engine="1"), firing=(200,))
    for part in ({"engine": "1"}, {"model_name": "n"}):
        (label,) = part
        idle = requests(none, none, none, none) | requests(*works, **part)
        yield Case(name, f"one {label} is idle", idle, silent=(200,))
        busy = requests("1x300", none, none, "0+5x300") | requests("1x300", none, "0+5x300", none, **part)
        yield Case(name, f"one {label} reads, one writes", busy, silent=(200,))
        new = requests("0x180 1x100", none, none, none) | requests(*works, **part)
        yield Case(name, f"one {label} has just begun", new, silent=(200,))
        ended = requests("1x180 0x100", none, none, none) | requests(*works, **part)
        yield Case(name, f"one {label} has ended", ended, silent=(200,))
    for kind in ("generation", "prompt"):
        tokens = {engine(f"{kind}_tokens_total", pid="7"): "0+5x300"}
        yield Case(name, f"another process counts the tokens, {kind}", stuck | tokens, silent=(200,))
    yield Case(name, "a visit that has ended", nothing | {ACTIVE: "1x180 0x100"}, silent=(200,))


def queues() -> Iterable[Case]:
    """Yield the cases of the two alerts on the queue."""
    name = "VllmQueueGrowing"
    yield Case(name, "over five", queue("1+0.2x100"), (33,), (40,))
    yield Case(name, "a step", queue("8x80 20x100"), (95, 120), (98,))
    yield Case(name, "a dip since", queue("10x60 20x8 8 20x100"), silent=(80, 85))
    yield Case(name, "a peak before the comparison", queue("8x49 30 8x30 20x100"), firing=(98,))
    yield Case(name, "a peak at the start of the comparison", queue("8x69 30 8x10 20x100"), silent=(99,))
    yield Case(name, "a peak at its end", queue("8x62 30 8x17 20x100"), silent=(96,))
    yield Case(name, "nothing waited before", queue("0x49 3 0x30 20x100"), silent=(98, 110))
    yield Case(name, "one waited before", queue("1x80 20x100"), firing=(98,))
    yield Case(name, "some waited until 15 s before", queue("8x66 0x11 20x100"), firing=(95,))
    yield Case(name, "some waited for 35 s", queue("0x45 8x35 20x100"), firing=(98,))
    two = queue("8x300") | queue("30-0.1x290", model_name="n")
    yield Case(name, "two models, none of which grows", two, silent=(60, 150, 250))

    low = queue("8x300") | queue("0.1+0.05x80", model_name="n")
    yield Case(name, "two models, a short one grows", low, silent=(60, 78))
    begins = queue("0x80 20x100") | queue("8x200", model_name="n")
    yield Case(name, "two models, one begins", begins, silent=(98,))

    def noisy(slope: float, base: float = 100, noise: int = 4, start: int = 0) -> str:
        values = (base + slope * max(0, at - start) + noise * (-1) ** at for at in range(start + 260))
        return " ".join(f"{value:.2f}" for value in values)

    yield Case(name, "under 5 and a tenth in two minutes", queue(noisy(0.12)), silent=(150, 240))
    yield Case(name, "over 5 and a tenth in two minutes", queue(noisy(0.17)), (118,), (140, 160))
    yield Case(name, "for two minutes", queue(noisy(0.5, start=200)), (235,), (300,))
    grows = queue(noisy(0.4)) | queue("0x60 30x200", model_name="n")
    yield Case(name, "one model grows", grows, firing=(200,))
    halves = queue(noisy(0.17, base=30)) | queue(noisy(0, base=600), model_name="n")
    yield Case(name, "a small one grows, a large one does not", halves, firing=(150,))
    fresh = {series: f"_x150 {values}" for series, values in queue(noisy(0.4)).items()}
    yield from means()
    yield Case(name, "a new one, an old one", fresh | queue("8x300", model_name="n"), silent=(240,))
    stays = "VllmQueuePersistent"
    yield Case(stays, "four", queue("4x600"), silent=(550,))
    yield Case(stays, "six", queue("6x600"), (475,), (485,))
    yield Case(stays, "a pause of a minute", queue("12x200 0x60 12x300"), firing=(490,))
    yield Case(stays, "a pause of eighty seconds", queue("12x200 0x80 12x300"), silent=(500,))


def means() -> Iterable[Case]:
    """Yield the cases of the windows over which a noisy queue is averaged; its noise keeps the first part silent."""
    name = "VllmQueueGrowing"

    def noisy(noise: float, mean: Callable[[int], float]) -> dict[str, str]:
        values = (max(0.0, mean(at) + noise * (-1) ** at) for at in range(320))
        return queue(" ".join(f"{value:.2f}" for value in values))

    early = noisy(1, lambda at: 0.3 if at < 240 else 4 if at < 271 else 5.6)
    yield Case(name, "over five on average of 30 s, not of 60", early, firing=(300,))
    late = noisy(1, lambda at: 0.3 if at < 240 else 4.5 if at < 285 else 5.4)
    yield Case(name, "over five on average of 15 s, not of 30", late, silent=(301,))
    early = noisy(4, lambda at: 120 + at / 5 + 60 * (210 <= at <= 270))
    yield Case(name, "over a tenth of the average of 30 s, not of 60", early, firing=(300,))
    late = noisy(4, lambda at: 258 + at / 20 + 60 * (271 <= at <= 285))
    yield Case(name, "over a tenth of the average of 15 s, not of 30", late, silent=(301,))
    blip = noisy(15, lambda at: 18 if at == 60 else max(-15, at - 100))
    yield Case(name, "one waited in ten seconds, two minutes before", blip, (198,), (188,))


def load() -> Iterable[Case]:
    """Yield the cases of the pool and of preemptions."""
    name, usage = "VllmKvCacheNearlyFull", engine("kv_cache_usage_perc")
    full = {usage: "0.99x250"}
    yield Case(name, "full for a minute", {usage: "0.5x99 0.96x150"} | queue("1x250"), (163,), (168,))
    yield Case(name, "one waits for a minute", full | queue("0x99 1x150"), (163,), (168,))
    yield Case(name, "shown for a minute", full | queue("1x250"), (62,), (68,))
    two = full | {engine("kv_cache_usage_perc", model_name="n"): "0.2x250"} | queue("0x250")
    yield Case(name, "one model is full, another waits", two | queue("9x250", model_name="n"), silent=(200,))
    new = {usage: "_x150 0.99x99"} | queue("1x250") | {engine("kv_cache_usage_perc", model_name="n"): "0.2x250"}
    yield Case(name, "one model is new", new, silent=(190,))
    storm, preempted = "VllmPreemptionStorm", engine("num_preemptions_total")
    done = engine("request_success_total", finished_reason="stop")
    for rate, finished, fires in ((0.15, 0, False), (0.3, 0, True), (1, 1.5, True), (1, 3, False)):
        times = {"firing" if fires else "silent": (60,)}
        series = {preempted: f"0+{rate}x80", done: f"0+{finished}x80"}
        yield Case(storm, f"{rate}/s against {finished}/s", series, **times)
    yield Case(storm, "for half a minute", {preempted: "0x100 0+2x60", done: "0+1x160"}, (116,), (122,))
    yield Case(storm, "none is finished any more", {preempted: "0+1x260", done: "0+4x200 800x60"}, (221,), (231,))
    other = {engine("request_success_total", finished_reason="stop", model_name="n"): "0+9x80"}
    yield Case(storm, "of one model", {preempted: "0+1x80", done: "0+1x80"} | other, firing=(60,))


def rising(phases: Iterable[tuple[int, float]]) -> str:
    """Return a counter in promtool's notation over phases of (samples, gain of each)."""
    total, text = 0.0, ["0"]
    for count, gain in phases:
        text.append(f"{total + gain:.6f}+{gain:.6f}x{count - 1}")
        total += gain * count
    return " ".join(text)


def hit_rates() -> Iterable[Case]:
    """Yield the cases of VllmHitRateCollapsed, whose half hour is ten minutes here where that suffices."""
    name = "VllmHitRateCollapsed"

    def tokens(queries: str, hits: str, **labels: str) -> dict[str, str]:
        names = (engine(f"prefix_cache_{kind}_total", **labels) for kind in ("queries", "hits"))
        return dict(zip(names, (queries, hits), strict=True))

    def phases(*parts: tuple[int, float, float], step: int = 1) -> dict[str, str]:
        """Return the tokens over phases of (seconds, queries per second, share of them that hits)."""
        rates = [(seconds // step, queries * step, hits) for seconds, queries, hits in parts]
        return tokens(
            rising((count, queries) for count, queries, _ in rates),
            rising((count, queries * hits) for count, queries, hits in rates),
        )

    def falls(queries: float, before: float, after: float) -> dict[str, str]:
        at = queries * before * 400
        return tokens(f"0+{queries:g}x600", f"0+{queries * before:g}x400 {at:g}+{queries * after:g}x200")

    for why, series, fires in (
        ("1,200 tokens per minute", falls(20, 0.5, 0.05), True),
        ("720 tokens per minute", falls(12, 0.5, 0.05), False),
        ("from 50 % to 30 %", falls(1000, 0.5, 0.3), False),
        ("from 50 % to 20 %", falls(1000, 0.5, 0.2), True),
        ("from 15 %", falls(1000, 0.15, 0.01), True),
        ("from 7 %", falls(1000, 0.07, 0.001), False),
    ):
        yield Case(name, why, series, **{"firing" if fires else "silent": (500,)})
    yield Case(name, "hits, over a minute", falls(1000, 0.5, 0), (430, 442), (450,))
    more = tokens("0+1000x400 400000+3000x200", "0+500x600")
    yield Case(name, "queries, over a minute", more, (430,), (450,))
    yield Case(name, "known for three minutes", tokens("0+1000x300", "0+500x100 50000x200"), (180,), (195,))
    young = {series: f"_x400 {each}" for series, each in tokens("0+1000x300", "0+500x100 50000x200").items()}
    old = tokens("0+1000x700", "0+500x700", model_name="n")
    yield Case(name, "one model is new", young | old, (580,), (600,))
    long = tokens("0+1000x2000", "0+900x1200 1080000+300x540 1242000+200x260")
    yield Case(name, "against half an hour", long, firing=(1900,))
    # The last minute against the four before it, which are all that there is.
    few = phases((240, 1000, 0.5), (75, 1000, 0.243))
    yield Case(name, "hits until the last minute", few, firing=(315,))
    yield Case(name, "queries until the last minute", phases((240, 1000, 0.5), (75, 10000, 0.15)), firing=(315,))
    dips = phases((180, 1000, 0.5), (60, 1000, 0.1), (75, 1000, 0.22))
    yield Case(name, "hits of the minute before", dips, silent=(315,))
    # Every five seconds; the hour before the last minute has two halves, and the second of them two parts.
    better = phases((1800, 1000, 0.9), (1800, 1000, 0.3), (75, 1000, 0.2), step=5)
    yield Case(name, "hits of half an hour alone", better, silent=(3675,), step="5s")
    more = phases((1800, 3000, 0.1), (1800, 1000, 0.3), (75, 1000, 0.13), step=5)
    yield Case(name, "queries of half an hour alone", more, firing=(3675,), step="5s")
    fewer = phases((1200, 3000, 0.1), (600, 1000, 0.3), (75, 1000, 0.08), step=5)
    yield Case(name, "queries of all the half hour", fewer, silent=(1875,), step="5s")
    for label, other in (
        ("caches", tokens("0+1000x600", "0+500x600", model_name="n")),
        ("does not", tokens("0+9000x600", "0x600", model_name="n")),
    ):
        steady = falls(1000, 0.5, 0.5)
        yield Case(name, f"another model {label}", falls(1000, 0.5, 0.05) | other, firing=(500,))
        yield Case(name, f"none falls, another model {label}", steady | other, silent=(500,))


def suites() -> Iterator[dict[str, Any]]:
    """Yield the cases as suites of rule tests; those of minutes are evaluated every five seconds."""
    yield shipped(chain(down(), hung(), queues(), load()), "1s")
    yield shipped(hit_rates(), "5s")


@pytest.mark.prometheus
def test_each_number_of_an_alert_on_the_engine_counts(found_promtool: Callable[..., str], tmp_path: Path) -> None:
    """A threshold twice as high, a window a third as long, a label too few: each changes one of these cases."""
    found_promtool("test", "rules", *write_suites(suites(), tmp_path))
