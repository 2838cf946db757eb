"""The segments of a soak by themselves: what each counts, and what is left of one whose process was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.workload.soak.test_display import answered
from workload.errors import UsageError
from workload.record.journal import Journal, read
from workload.soak.record import SoakRecord
from workload.soak.segments import Segments
from workload.soak.sender import SoakTally
from workload.soak.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class KilledError(BaseException):
    """The process ends here: nothing that follows is executed."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal lies."""
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return an open journal."""
    with Journal(path, {}) as journal:
        yield journal


def segments_of(journal: Journal, path: Path, number: int = 0) -> Segments:
    """Return the segments of a process that begins at `number`."""
    return Segments(journal, SoakRecord(path), SoakTally(), number)


def send(segments: Segments, ended: float) -> None:
    """Count a question that is answered."""
    answered(segments.journal, ended, 1.0)
    segments.tally.scheduled += 1
    segments.tally.sent += 1


async def test_each_segment_has_its_own_share(journal: Journal, path: Path) -> None:
    """The tally counts the whole process; a segment that repeated the earlier ones would make the sums too large."""
    segments = segments_of(journal, path)
    segments.open(0.0)
    send(segments, 5.0)
    segments.tally.scheduled += 3
    segments.tally.paused += 1
    first = await segments.roll(10.0)
    send(segments, 15.0)
    send(segments, 16.0)
    segments.tally.scheduled += 1
    second = await segments.roll(20.0, opens=False)
    assert first
    assert second
    assert [(each["sent"], each["ok"], each["dropped"], each["paused"]) for each in (first, second)] == [
        (1, 1, 2, 1),
        (2, 2, 1, 0),
    ]
    rows = read(path, "segment")
    assert [(row["id"], row["started_at"], row["ended_at"]) for row in rows] == [(0, 0.0, 10.0), (1, 10.0, 20.0)]
    assert segments.number == 1


@pytest.mark.parametrize("where", ["open", "acknowledge", "summary"])
async def test_a_kill_inside_roll_loses_no_segment(path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A roll writes three times; whichever comes last, the next process goes on and the report adds up."""

    def killed(*_: Any) -> None:
        raise KilledError

    with Journal(path, {}) as journal:
        segments = segments_of(journal, path)
        segments.open(0.0)
        send(segments, 5.0)
        segments.tally.scheduled += 2
        monkeypatch.setattr(
            {"open": segments, "acknowledge": journal, "summary": segments.record}[where], where, killed
        )
        with pytest.raises(KilledError):
            await segments.roll(10.0)
    monkeypatch.undo()

    with Journal(path, {}) as journal:
        resume_point = SoakRecord(path).resume_point()
        again = segments_of(journal, path, resume_point.segments)
        assert resume_point.open_segment == (None if where == "open" else (1, 10.0))
        if resume_point.open_segment:
            again.close_dangling(*resume_point.open_segment)
        again.open(30.0)
        send(again, 35.0)
        await again.roll(40.0, opens=False)
    found = summarise(SoakRecord(path))
    assert [segment["summary"]["sent"] for segment in found["segments"]] == ([1, 1] if where == "open" else [1, 0, 1])
    assert (found["accounting"]["scheduled"], found["accounting"]["dropped"]) == (4, 2)
    assert (found["start"], found["end"]) == (0.0, 40.0)


async def test_an_unreadable_journal_ends_no_segment_early(
    journal: Journal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary can be computed later, the questions cannot be sent again."""
    segments = segments_of(journal, path)
    segments.open(0.0)
    send(segments, 5.0)

    def locked(*_: Any) -> None:
        raise UsageError("The journal cannot be read: database is locked.")

    with monkeypatch.context() as patch:
        patch.setattr(segments.record, "summary", locked)
        assert await segments.roll(10.0) is None
    assert segments.number == 1
    await segments.roll(20.0, opens=False)
    assert [segment["summary"]["ok"] for segment in summarise(SoakRecord(path))["segments"]] == [1, 0]


async def test_what_was_not_sent_is_kept_before_the_end(journal: Journal, path: Path) -> None:
    """A process that is killed in mid-segment would take its dropped arrivals with it."""
    segments = segments_of(journal, path)
    segments.open(0.0)
    segments.tally.scheduled += 4
    segments.tally.paused += 3
    segments.keep()
    await journal.acknowledge()
    (row,) = read(path, "segment")
    assert (row["dropped"], row["paused"], row["ended_at"]) == (1, 3, None)
