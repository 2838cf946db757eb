"""What each step of a question really needs: the tasks of its critical path."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from workload.analysis.overlap import critical_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.results import Row

# The tasks whose results a task reads, as (task, hops before). Running earlier is not a need: `decide` reads clues but
# not documents, for example. Needs that a question does not have, such as hop 0, are dropped.
NEEDS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "decompose": (("decide", 1), ("extract_clues", 1)),
    "embed": (("decompose", 0),),
    "search": (("embed", 0),),
    "rerank": (("search", 0), ("decompose", 0)),
    "accumulate": (("rerank", 0), ("accumulate", 1)),
    "extract_clues": (("accumulate", 0),),
    "decide": (("extract_clues", 0),),
    # the loop ends with `decide`, or with a `decompose` without a further query
    "generate": (("decide", 0), ("decompose", 0), ("accumulate", 0), ("accumulate", 1)),
    "extract_supporting_facts": (("generate", 0),),
    "finalize": (("generate", 0),),
}
# Their time is counted by the stages inside them.
SPLIT_NODES = frozenset({"retrieve", "grade"})


class QuestionPath(TypedDict):
    """One question: its time, that of its tasks one after the other, and the longest chain of needs, `path`.

    `in_no_task_seconds` are those of the graph's own steps and of the journal.
    """

    question_id: str
    seconds: float
    serial_seconds: float
    critical_seconds: float
    critical_share_of_serial: float | None
    in_no_task_seconds: float
    path: list[str]


def question_path(question: Row, visits: Iterable[Row], stages: Iterable[Row]) -> QuestionPath:
    """Return the critical path of one answered question from its visits and stages."""
    seconds: dict[str, float] = {}
    needs: dict[str, list[str]] = {}
    for name, hop, duration in [
        *((row["node"], row["hop"], row["duration_seconds"]) for row in visits if row["node"] not in SPLIT_NODES),
        *((row["stage"], row["hop"], row["duration_seconds"]) for row in stages),
    ]:
        key = f"{name} {hop}"
        seconds[key] = seconds.get(key, 0.0) + duration
        needs[key] = [f"{need} {hop - before}" for need, before in NEEDS.get(name, ())]
    known = {key: [need for need in found if need in seconds] for key, found in needs.items()}
    path, serial = critical_path(seconds, known), sum(seconds.values())
    return {
        "question_id": question["question_id"],
        "seconds": question["duration_seconds"],
        "serial_seconds": serial,
        "critical_seconds": path.seconds,
        "critical_share_of_serial": path.seconds / serial if serial else None,
        "in_no_task_seconds": question["duration_seconds"] - serial,
        "path": list(path.tasks),
    }


def paths_of(questions: Iterable[Row], visits: Sequence[Row], stages: Sequence[Row]) -> list[QuestionPath]:
    """Return the critical path of every answered question."""
    return [
        question_path(
            question,
            [row for row in visits if row["question"] == question["id"]],
            [row for row in stages if row["question"] == question["id"]],
        )
        for question in questions
        if question["outcome"] == "ok"
    ]
