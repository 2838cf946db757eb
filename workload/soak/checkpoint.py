"""What a soak keeps on disk every few seconds beside its journal, and where it goes on after a crash."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from workload.errors import UsageError
from workload.files.enclosed import text_of
from workload.record.manifest import LATEST_SECONDS, Count
from workload.soak.stream import Item, QuestionStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workload.corpus.hotpotqa import Question
    from workload.record.bundle import Bundle
    from workload.soak.record import Unfinished

FILE = "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A soak at one instant.

    Attributes:
        at: seconds since the epoch.
        elapsed_seconds: of the duration, over all processes of the run.
        segment: the current segment.
        lap, index: where the stream stood.
        level: questions in flight that were allowed.
        holds: why nothing was sent; empty when the run went on.
        accounting: of this process.
        firing: the alerts that steered, by fingerprint: name, action and since when.
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
        """Write it at once or not at all.

        Raises:
            StorageError: it could not be written; the one before is untouched.
        """
        bundle.write_json(FILE, asdict(self))


def read_checkpoint(bundle: Bundle) -> Checkpoint | None:
    """Return the last checkpoint of an earlier process; None if it died before its first.

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


def stream_of(questions: Sequence[Question], seed: int, stands: Unfinished | None) -> QuestionStream:
    """Return the stream from where it stands: what was in flight at the interruption comes first, as a next attempt.

    The journal says where that is, not the checkpoint: what was sent after the last one must not be sent as new.
    """
    if stands is None:
        return QuestionStream(questions, seed)
    known = {question.id: question for question in questions}
    again = [Item(known[name], lap, attempts + 1) for lap, name, attempts in stands.again if name in known]
    return QuestionStream(questions, seed, stands.lap, stands.index, again)
