"""A soak's checkpoint, written every few seconds next to its journal, and the question stream to resume with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from workload.errors import UsageError
from workload.files.enclosed import text_of
from workload.record.manifest import LATEST_SECONDS, Count
from workload.soak.question_stream import QuestionStream, QueuedQuestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.corpus.hotpotqa import Question
    from workload.record.bundle import Bundle
    from workload.soak.record import ResumePoint

FILE = "checkpoint.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A soak at one instant.

    Attributes:
        elapsed_seconds: the used part of the duration, over all processes of the run.
        lap, index: the stream's position.
        level: how many questions may be in flight.
        holds: the names of the pauses in force; empty while the run sends.
        accounting: this process's counts.
        firing: the firing alerts that steer, by fingerprint: name, action and beginning.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    at: Annotated[float, Field(ge=0, le=LATEST_SECONDS, allow_inf_nan=False)]
    elapsed_seconds: Annotated[float, Field(ge=0, le=LATEST_SECONDS, allow_inf_nan=False)]
    segment: Count
    lap: Count
    index: Count
    level: Count
    holds: tuple[str, ...]
    accounting: dict[str, Any]
    firing: dict[str, Any] = field(default_factory=dict)

    def write(self, bundle: Bundle) -> None:
        """Write the checkpoint whole, or not at all.

        Raises:
            StorageError: it could not be written; the previous one is untouched.
        """
        bundle.write_json(FILE, asdict(self))


def read_checkpoint(bundle: Bundle) -> Checkpoint | None:
    """Return the last checkpoint of an earlier process; None if there is none.

    Raises:
        UsageError: it is damaged.
    """
    path = bundle.folder / FILE
    try:
        return TypeAdapter(Checkpoint).validate_json(text_of(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}).", "Start a new soak.") from error


def stream_of(questions: Sequence[Question], seed: int, resume_point: ResumePoint | None) -> QuestionStream:
    """Return the stream from the resume point; questions in flight at the interruption come first, as a next attempt.

    The position comes from the journal, because questions sent after the last checkpoint must not be sent as new.
    """
    if resume_point is None:
        return QuestionStream(questions, seed)
    known = {question.id: question for question in questions}
    again = [
        QueuedQuestion(known[name], lap, attempts + 1) for lap, name, attempts in resume_point.again if name in known
    ]
    return QuestionStream(questions, seed, resume_point.lap, resume_point.index, again)
