"""Experiment 4: what does vLLM's prefix cache gain? The same questions with caching off and on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from workload.analysis.ab import COMPARED, CONTROL, Compared, amdahl, diverged, quality
from workload.analysis.cache import hit_rates
from workload.analysis.drift import control_of, doubts
from workload.analysis.levels import full_part, load_in_words, load_of, throughput
from workload.analysis.rate import estimators, in_words
from workload.analysis.wording import Bookkeeping, Caveat, change, interval, number, percent, sent
from workload.charts.caching import draw_levels, draw_result
from workload.charts.drawing import Drawing, Traces, draw_panels
from workload.experiment import Arm, Experiment
from workload.panels.data import peak
from workload.panels.vllm_metrics import CACHE_METRICS, FIGURES, REQUEST_STATES, REQUESTS, THROUGHPUT
from workload.statistics.paired import Comparison, compare, pairing_in_words

if TYPE_CHECKING:
    from pathlib import Path

    from workload.analysis.summaries import CachingComparison, CachingLevel, VllmMetricsSummary
    from workload.panels.panel import Figure
    from workload.record.results import RunData

OFF, ON = Arm("prefix-off", "prefix-off"), Arm("prefix-on", "prefix-on")


def reduce(data: RunData) -> VllmMetricsSummary:
    """Return the comparison over all loads and, where there are several, at each of them."""
    points = data.points if len(data.points) > 1 else ()
    return {**compare_arms(data), "levels": {point: _level(data.at(point), point) for point in points}}


def _level(data: RunData, point: str) -> CachingLevel:
    """Return the comparison at one level, with each arm's answers per second."""
    rates = {}
    for arm in (OFF.name, ON.name):
        mine = [row for row in data.questions if row["arm"] == arm]
        full, _ = full_part(mine, int(load_of(point)[1]))
        rates[arm] = throughput(full, mine)
    return {**compare_arms(data), "throughput": rates}


def compare_arms(data: RunData) -> CachingComparison:
    """Return hit rates from three sources, paired comparisons, quality, and the gain that theory allows."""
    arms = (OFF.name, ON.name)
    compared: Compared = {
        name: compare(data.by_question(OFF.name, value), data.by_question(ON.name, value))
        for name, value in COMPARED.items()
    }
    return {
        "hit_rate": {arm: hit_rates(data, arm) for arm in arms},
        "compared": compared,
        "control": control_of(frozenset({"prefix_caching"}), data.points),
        "amdahl": amdahl(data, OFF.name, compared["uncached_prefill_tokens"]["change"]),
        "quality": {arm: quality(data, arm) for arm in arms},
        "diverged_questions": diverged(data),
    }


def headline(summary: VllmMetricsSummary) -> list[tuple[str, ...]]:
    """Return the rows of the closing table: quantity, caching off, caching on, change."""
    rates, compared, quality_ = summary["hit_rate"], summary["compared"], summary["quality"]
    off, on = (rates[arm.name] for arm in (OFF, ON))
    predicted = percent(summary["amdahl"]["predicted_end_to_end_change"], signed=True)
    scores = (quality_[arm.name] for arm in (OFF, ON))
    exact, f1, facts = zip(*((one["answer_em"], one["answer_f1"], one["facts_f1"]) for one in scores), strict=True)
    rows: list[tuple[str, ...]] = [
        ("Prefix cache hit rate", off["prefix_caching"], percent(on["counters"]["hit_rate"]), ""),
        ("... by cached_tokens in the responses", "", percent(on["responses"]["hit_rate"]), ""),
        ("... reuse bound of the same prompts", "", percent(on["bound"]["hit_rate"]), ""),
        ("Uncached prefill tokens per question, median", *_medians(compared["uncached_prefill_tokens"])),
        ("Time to first token, median", *_medians(compared["time_to_first_token_seconds"], " s")),
        ("End to end, median", *_medians(compared["end_to_end_seconds"], " s")),
        ("Control: decode time per token, median", *_medians(compared[CONTROL], " s")),
        ("Predicted end-to-end change (Amdahl)", "", "", predicted),
        ("Answer EM", *map(number, exact), ""),
        ("Answer F1", *map(number, f1), ""),
        ("Supporting-fact F1", *map(number, facts), ""),
    ]
    return rows + [row for point, level in summary["levels"].items() for row in _level_rows(point, level)]


def _level_rows(point: str, level: CachingLevel) -> list[tuple[str, ...]]:
    """Return what caching changes at one concurrency."""
    title = f"{load_of(point)[1]:g} at a time"
    on, compared = level["hit_rate"][ON.name], level["compared"]
    rates = [level["throughput"][arm.name] for arm in (OFF, ON)]
    hit, bound = (percent(rate) for rate in (on["responses"]["hit_rate"], on["bound"]["hit_rate"]))
    equal = f"{number(on['calls_equal_to_bound'])} of {on['calls']} calls"
    return [
        (f"{title}: hit rate; reuse bound of the same prompts", "", f"{hit}; {bound}", f"equal in {equal}"),
        (f"{title}: time to first token, median", *_medians(compared["time_to_first_token_seconds"], " s")),
        (f"{title}: end to end, median", *_medians(compared["end_to_end_seconds"], " s")),
        (f"{title}: control: decode time per token, median", *_medians(compared[CONTROL], " s")),
        (f"{title}: answers per second", *map(in_words, rates), ""),
        (f"{title}: ... over the whole run", *(number(rate["over_whole_run"]) for rate in rates), ""),
    ]


def _medians(row: Comparison, unit: str = "") -> tuple[str, str, str]:
    """Return both arms' medians and their paired change, each with its interval."""
    a, b = (number(value) + unit + interval(ci) for value, ci in ((row["a"], row["a_ci"]), (row["b"], row["b_ci"])))
    return a, b, percent(row["change"], signed=True) + interval(row["change_ci"], percent)


def verdicts(summary: VllmMetricsSummary) -> list[str]:
    """Return what a reader must know before using the numbers."""
    on = summary["hit_rate"][ON.name]
    counters, responses, unknown = on["counters"], on["responses"], on["unknown"]
    agree = {True: "agree to the token", False: "DISAGREE", None: "cannot be compared"}[on["agree_to_the_token"]]
    prefill, whole = (summary["compared"][name] for name in ("uncached_prefill_tokens", "end_to_end_seconds"))
    allowed = summary["amdahl"]["predicted_end_to_end_change"]
    confounded = " (order-confounded: AB order)" if summary["order"] == "AB" else ""
    doubted = doubts(summary["compared"], allowed, "caching", summary["control"])
    sentences: list[str] = [
        (
            f"The cache served {percent(counters['hit_rate'])} of the prompt tokens. It changed uncached prefill by "
            f"{change(prefill)} per question and end-to-end time by {change(whole)}{confounded}; theory allows "
            f"{percent(allowed, signed=True)}{doubted}."
        ),
        Bookkeeping(
            f"Engine counters and responses {agree}: by the counters {number(counters['hits'])} of "
            f"{number(counters['queries'])} prompt tokens hit, by the responses {number(responses['cached_tokens'])} "
            f"of {number(on['prompt_tokens'])}."
        ),
        Bookkeeping(
            f"{number(on['calls_equal_to_bound'])} of {on['calls']} calls hit exactly what the reuse bound predicts."
        ),
    ]
    if on["agree_to_the_token"] is None and unknown["calls"] and unknown["prompt_tokens"] is not None:
        sentences.append(
            Bookkeeping(
                f"{number(unknown['calls'])} calls were cut before they reported their tokens. The engine counted "
                f"{number(unknown['prompt_tokens'])} prompt tokens more than the responses reported, "
                f"{number(unknown['cached_tokens'])} of them hits; these calls can account for all of them."
            )
        )
    if on["inferred_calls"]:
        sentences.append(
            Bookkeeping(
                f"{number(on['inferred_calls'])} responses omitted their cached tokens; the engine counted no hits "
                "for them, so they count as 0."
            )
        )
    sentences += [
        Bookkeeping(f"{count} calls differ from the bound: {cause}.")
        for cause, count in Counter(found["cause"] for found in on["differences"]).items()
    ]
    if summary["diverged_questions"]:
        share = percent(summary["diverged_questions"])
        sentences.append(
            Caveat(f"{share} of the questions took another path in another start: those arms did unequal work.")
        )
    sentences.append(Bookkeeping(pairing_in_words(whole["n"])))
    if summary["order"] == "AB":
        sentences.append(Caveat("AB order: one start per arm, so drift of the machine is confounded with the arm."))
    if summary["levels"]:
        rates = (rate for level in summary["levels"].values() for rate in level["throughput"].values())
        sentences.append(Bookkeeping(estimators(rates)))
    return [*sentences, Bookkeeping(sent(summary["accounting"]) + ".")]


def title(figure: Figure, summary: VllmMetricsSummary, traces: Traces) -> str:
    """Return what a figure of this run shows, in one sentence."""
    on = summary["hit_rate"][ON.name]
    served, bound = on["responses"]["hit_rate"], on["bound"]["hit_rate"]
    if figure is CACHE_METRICS and served is not None:
        return f"The prefix cache served {percent(served)} of the prompt tokens; the prompts allow {percent(bound)}"
    if figure is THROUGHPUT:
        return _change_of_time(summary)
    if figure is REQUEST_STATES:
        seen = {line.legend: peak(traces[REQUESTS.key], line.legend) for line in REQUESTS.lines}
        peaks = (f"{number(most)} requests {state}" for state, most in seen.items() if most is not None)
        return f"At most {' and '.join(peaks)} at a time" if any(seen.values()) else figure.title
    return figure.title


def _change_of_time(summary: VllmMetricsSummary) -> str:
    """Return what caching changed in a question's time, at each end of the levels where there are several."""
    caveat = " (one start per arm)" if summary["order"] == "AB" else ""
    prefill = f"Caching changed uncached prefill by {change(summary['compared']['uncached_prefill_tokens'])}"
    by_level = {
        point: row["change"]
        for point, level in summary["levels"].items()
        if (row := level["compared"]["end_to_end_seconds"])["change"] is not None
    }
    if not by_level:
        return f"{prefill} per question, end to end by {change(summary['compared']['end_to_end_seconds'])}{caveat}"
    ends = (min(by_level, key=by_level.__getitem__), max(by_level, key=by_level.__getitem__))
    span = " to ".join(f"{percent(by_level[point], signed=True)} ({load_in_words(point)})" for point in ends)
    return f"{prefill} per question, end to end by {span}{caveat}"


def draw(drawing: Drawing[VllmMetricsSummary]) -> list[Path]:
    """Draw what caching changes in each question, the panels and, where there are several loads, each of them."""
    files = [draw_result(drawing), *draw_panels(FIGURES, title)(drawing)]
    return [*files, draw_levels(drawing)] if drawing.summary["levels"] else files


VLLM_METRICS = Experiment(
    name="vllm-metrics",
    folder="vllm_metrics",
    title="What does the prefix cache save?",
    arms=(OFF, ON),
    draw=draw,
    figures=FIGURES,
    reduce=reduce,
    headline=headline,
    columns=("", OFF.name, ON.name, "paired change"),
    verdicts=verdicts,
    limit=20,
)
