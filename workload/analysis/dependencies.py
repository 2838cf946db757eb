"""What each step of a question really needs: the tasks of a question, for its critical path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.analysis.overlap import critical_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.results import Row

# Which tasks' results a task reads, as (task, hops before). That one task ran before another is no need of it: `decide`
# reads clues and not documents, for one. A need that the question never had, such as hop 0, falls away.
NEEDS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "decompose": (("decide", 1), ("extract_clues", 1)),
    "embed": (("decompose", 0),),
    "search": (("embed", 0),),
    "rerank": (("search", 0), ("decompose", 0)),
    "accumulate": (("rerank", 0), ("accumulate", 1)),
    "extract_clues": (("accumulate", 0),),
    "decide": (("extract_clues", 0),),
    # the loop ends with `decide`, or with a `decompose` that finds nothing left to ask
    "generate": (("decide", 0), ("decompose", 0), ("accumulate", 0), ("accumulate", 1)),
    "extract_supporting_facts": (("generate", 0),),
    "finalize": (("generate", 0),),
}
# Their time is that of the stages inside them.
SPLIT_NODES = frozenset({"retrieve", "grade"})


@dataclass(frozen=True)
class QuestionPath:
    """One question, in seconds: as it ran, its tasks one after the other, and the longest chain of needs."""

    question_id: str
    duration: float
    serial: float
    critical: float
    tasks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the path for JSON, with what ran in no task: the graph's own steps, the journal."""
        return {
            "question_id": self.question_id,
            "seconds": self.duration,
            "serial_seconds": self.serial,
            "critical_seconds": self.critical,
            "critical_share_of_serial": self.critical / self.serial if self.serial else None,
            "in_no_task_seconds": self.duration - self.serial,
            "path": list(self.tasks),
        }


def question_path(question: Row, visits: Iterable[Row], stages: Iterable[Row]) -> QuestionPath:
    """Return the critical path of one question that was answered, from its own visits and stages."""
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
    path = critical_path(seconds, known)
    return QuestionPath(
        question["question_id"], question["duration_seconds"], sum(seconds.values()), path.seconds, path.tasks
    )


def paths_of(questions: Iterable[Row], visits: Sequence[Row], stages: Sequence[Row]) -> list[QuestionPath]:
    """Return the critical path of every question that was answered."""
    return [
        question_path(
            question,
            [row for row in visits if row["question"] == question["id"]],
            [row for row in stages if row["question"] == question["id"]],
        )
        for question in questions
        if question["outcome"] == "ok"
    ]
