"""Experiment 0: where does a question's time go, and what ends its loop?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.agent.state import NODES
from workload.analysis import latency
from workload.analysis.ab import quality
from workload.analysis.wording import interval, number, percent
from workload.charts.latency import draw
from workload.experiment import Arm, Experiment
from workload.statistics.percentiles import NEEDED

if TYPE_CHECKING:
    from workload.record.results import RunData

BASE = Arm("base", "base")


def reduce(data: RunData) -> dict[str, Any]:
    """Return latency by node, its distribution, hops by type of question, what ended the loops, context by hop."""
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


def headline(summary: dict[str, Any]) -> list[tuple[str, ...]]:
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
        (f"Hops of a {kind} question, mean", number(found["mean"]), str(found["n"]))
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
    quality_ = summary["quality"][BASE.name]
    rows += [
        (title, number(quality_[key]), str(quality_["questions"]))
        for title, key in (("Answer EM", "answer_em"), ("Answer F1", "answer_f1"), ("Supporting-fact F1", "facts_f1"))
    ]
    return rows


def _with_interval(found: dict[str, Any]) -> str:
    return "-" if found["value"] is None else f"{number(found['value'])} s{interval(found['ci'])}"


def verdicts(summary: dict[str, Any]) -> list[str]:
    """Return what takes the time and what ends the loops."""
    sentences = []
    if summary["by_node"]:
        node, found = max(summary["by_node"].items(), key=lambda item: item[1]["share"])
        sentences.append(f"{node} takes {percent(found['share'])} of a question's time, more than any other node.")
    sentences.append(f"{summary['answered']} of {summary['questions']} questions were answered; times are of those.")
    sentences += [
        f"{percent(found['share'])} of the loops end with {name}, after {number(found['seconds']['median'])} s in the "
        f"median (n={found['n']})."
        for name, found in summary["endings"].items()
    ]
    told = {f"P{100 * found['p']:.0f}": found for found in summary["latency_seconds"]}
    absent = [name for name, found in told.items() if found["value"] is None]
    if absent:
        sentences.append(f"{', '.join(absent)}: -, because {summary['answered']} answers are too few ({NEEDED}).")
    wanting = [name for name, found in told.items() if found["value"] is not None and not found["ci"]]
    if wanting:
        sentences.append(f"{', '.join(wanting)}: no CI, because {summary['answered']} questions are too few for one.")
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
    max_hops=3,
    k=10,
    summary_file="latency_summary.json",
)
