"""Experiment 0: where does a question's time go, and why does its loop end?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.agent.state import NODES
from workload.analysis import latency
from workload.analysis.ab import quality
from workload.analysis.wording import Caveat, interval, number, percent
from workload.charts.latency import draw
from workload.experiment import Arm, Experiment
from workload.statistics.percentiles import NEEDED, Percentile

if TYPE_CHECKING:
    from workload.analysis.summaries import LatencySummary
    from workload.record.results import RunData

BASE = Arm("base", "base")


def reduce(data: RunData) -> LatencySummary:
    """Return the latency by node, its distribution, hops by question type, loop endings and context by hop."""
    nodes = latency.by_node(data.visits, data.questions)
    return {
        "questions": len(latency.ended(data.questions)),
        "answered": len(latency.answered(data.questions)),
        "latency_seconds": latency.distribution([row["duration_seconds"] for row in latency.answered(data.questions)]),
        "by_node": {node: nodes[node] for node in NODES if node in nodes},
        "hops_by_type": latency.hops_by_type(data.questions),
        "endings": latency.endings(data.questions),
        "context_by_hop": latency.context_by_hop(data.calls),
        "quality": {BASE.name: quality(data, BASE.name)},
    }


def headline(summary: LatencySummary) -> list[tuple[str, ...]]:
    """Return the rows of the closing table: quantity, value, how many values."""
    rows: list[tuple[str, ...]] = [
        (f"Question, P{100 * found['p']:.0f}", _with_interval(found), str(found["n"]))
        for found in summary["latency_seconds"]
    ]
    slowest = sorted(summary["by_node"].items(), key=lambda item: -item[1]["share"])[:4]
    rows += [
        (f"{node}: share, median", f"{percent(found['share'])}, {number(found['median'])} s", str(found["n"]))
        for node, found in slowest
    ]
    rows += [
        (f"Hops per {kind} question, mean", number(found["mean"]), str(found["n"]))
        for kind, found in summary["hops_by_type"].items()
    ]
    rows += [
        (
            f"Prompt tokens of {node} by hop, median",
            " / ".join(number(hop["median"]) for hop in hops),
            " / ".join(str(hop["n"]) for hop in hops),
        )
        for node, hops in summary["context_by_hop"].items()
    ]
    scores = summary["quality"][BASE.name]
    n = str(scores["questions"])
    return [
        *rows,
        ("Answer EM", number(scores["answer_em"]), n),
        ("Answer F1", number(scores["answer_f1"]), n),
        ("Supporting-fact F1", number(scores["facts_f1"]), n),
    ]


def _with_interval(found: Percentile) -> str:
    return "-" if found["value"] is None else f"{number(found['value'])} s{interval(found['ci'])}"


def verdicts(summary: LatencySummary) -> list[str]:
    """Return what takes the time and why the loops end."""
    sentences: list[str] = []
    if summary["by_node"]:
        node, found = max(summary["by_node"].items(), key=lambda item: item[1]["share"])
        sentences.append(f"{node} takes {percent(found['share'])} of a question's time, more than any other node.")
    sentences.append(f"{summary['answered']} of {summary['questions']} questions were answered; only these are timed.")
    sentences += [
        f"{percent(found['share'])} of the loops end with {name}, after a median of "
        f"{number(found['seconds']['median'])} s (n={found['n']})."
        for name, found in summary["endings"].items()
    ]
    by_name = {f"P{100 * found['p']:.0f}": found for found in summary["latency_seconds"]}
    if absent := [name for name, found in by_name.items() if found["value"] is None]:
        sentences.append(
            Caveat(f"{', '.join(absent)}: not given, because {summary['answered']} answers are too few ({NEEDED}).")
        )
    if wide := [name for name, found in by_name.items() if found["value"] is not None and not found["ci"]]:
        sentences.append(Caveat(f"{', '.join(wide)}: no CI, because {summary['answered']} answers are too few."))
    return sentences


LATENCY = Experiment(
    name="latency",
    folder="latency",
    title="Where does a question's time go?",
    arms=(BASE,),
    reduce=reduce,
    draw=draw,
    headline=headline,
    columns=("", BASE.name, "n"),
    verdicts=verdicts,
    limit=50,
    summary_file="latency_summary.json",
)
