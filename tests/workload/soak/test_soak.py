"""Whole soaks on the stub engine: their account, their report, and what is left of them after a crash."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from itertools import count
from threading import Timer
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.agent import StubStore
from tests.stubs.soak import StubLauncher, soak
from tests.stubs.vllm import StubVllm, Turn
from workload.corpus.document import Mark
from workload.errors import DependencyDownError, StorageError, UsageError
from workload.record.journal import read
from workload.soak import display as display_module
from workload.soak import soak as soak_module
from workload.soak.record import SoakRecord
from workload.soak.summary import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubVllm]:
    """Return a running stub server; checkpoints are written five times a second."""
    monkeypatch.setattr(soak_module, "CHECKPOINT_SECONDS", 0.2)
    with StubVllm() as server:
        yield server


def test_a_soak_goes_round_the_corpus_and_accounts_for_it(stub: StubVllm, tmp_path: Path) -> None:
    """More questions than the corpus has: each lap asks every question once, and every one is accounted for."""
    finished = soak(stub.url, tmp_path, {"questions": 24, "concurrency": 3, "segment": "1s"}, corpus=7)
    rows = read(finished.bundle / "journal.sqlite", "question")
    assert finished.exit_code == 0
    asked = Counter((row["block"], row["question_id"]) for row in rows)
    assert set(asked.values()) == {1}
    assert Counter(lap for lap, _ in asked) == {0: 7, 1: 7, 2: 7, 3: 3}
    account = finished.summary["accounting"]
    assert account["scheduled"] == account["sent"] + account["dropped"] + account["paused"] == 24
    assert account["ok"] == 24
    assert len({body["cache_salt"] for body in stub.requests}) == 4
    assert (finished.bundle / "report.html").stat().st_size > 1000
    point = json.loads((finished.bundle / "checkpoint.json").read_text())
    assert point["accounting"]["ok"] == 24


def test_row_06_an_engine_that_dies_and_comes_back(stub: StubVllm, tmp_path: Path) -> None:
    """What was in flight fails with a reason and gets one more chance; nothing is sent in between; all adds up."""
    requests = count()

    def away() -> None:
        stub.die()
        time.sleep(1)
        stub.live()

    def turn(_: object) -> Turn:
        if next(requests) == 30:
            Timer(0, away).start()
        return Turn(seconds=0.05)

    stub.script = turn
    finished = soak(stub.url, tmp_path, {"questions": 40, "concurrency": 3}, corpus=50)
    rows = read(finished.bundle / "journal.sqlite", "question")
    account = finished.summary["accounting"]
    failed = {row["question_id"] for row in rows if row["outcome"] == "failed"}
    assert 1 <= len(failed) <= 3
    assert set(account["failed"]) <= {"connection", "stream_cut"}
    again = {row["question_id"] for row in rows if row["attempt"] == 2}
    assert again == failed
    assert all(row["outcome"] == "ok" for row in rows if row["attempt"] == 2)
    assert (account["sent"], account["ok"]) == (40 + len(failed), 40)
    assert finished.summary["attempts"] == {"further": len(failed), "answers_per_question": 1}


def test_row_15_a_disk_that_fills_holds_the_run_and_lets_it_go(stub: StubVllm, tmp_path: Path) -> None:
    """Sending on would lose what it measures; the checkpoint stays, and the run goes on when there is room."""
    room = iter([2**40, 1, 1, 1])
    finished = soak(stub.url, tmp_path, {"duration": "2s", "concurrency": 2}, free=lambda _: next(room, 2**40))
    rows = read(finished.bundle / "journal.sqlite", "action")
    assert [(row["action"], row["alert"]) for row in rows] == [("pause", ""), ("lift", "")]
    asked = [row["started_at"] for row in read(finished.bundle / "journal.sqlite", "question")]
    held = [at for at in asked if rows[0]["at"] + 0.1 < at < rows[1]["at"]]
    assert held == []
    assert max(asked) > rows[1]["at"]


def test_a_soak_that_cannot_begin_says_why_and_leaves_no_report(stub: StubVllm, tmp_path: Path) -> None:
    """The port of the webhook is taken, say: the cause must not drown in a report of nothing."""

    def broken(_: object) -> int:
        raise StorageError("The disk is gone.")

    with pytest.raises(StorageError, match="gone"):
        soak(stub.url, tmp_path, {"duration": "2s"}, free=broken)
    launcher = StubLauncher(stub.url)
    stub.die()
    with pytest.raises(DependencyDownError):
        soak(stub.url, tmp_path / "other", {"duration": "2s"}, launcher=launcher)
    assert not list(tmp_path.rglob("report.html"))


def test_an_open_loop_drops_what_it_cannot_hold_and_counts_it(stub: StubVllm, tmp_path: Path) -> None:
    """Arrivals do not wait: what finds no room is counted as dropped, so the offered load is known too."""
    stub.script = lambda _: Turn(seconds=0.1)
    finished = soak(stub.url, tmp_path, {"duration": "2s", "concurrency": 2, "rate": 50.0})
    account = finished.summary["accounting"]
    assert account["dropped"] > account["sent"] > 0
    assert account["scheduled"] == account["sent"] + account["dropped"]


@pytest.mark.parametrize("flags", [{"concurrency": 1}, {"concurrency": 3}, {"concurrency": 2, "rate": 20.0}], ids=repr)
@pytest.mark.parametrize("failing", [1, 2])
def test_the_last_question_is_owed_its_further_attempt_too(
    stub: StubVllm, tmp_path: Path, flags: dict[str, Any], failing: int
) -> None:
    """With `--limit` the run was over when the last question was sent: one that failed with the engine was lost."""
    seen: list[str] = []
    most = 4

    def script(body: Mapping[str, Any]) -> Turn:
        asked = re.findall(r"\d+ was founded", str(body["messages"]))[-1]
        is_first = asked not in seen
        seen.append(asked)
        return Turn(after=0, then="reset") if is_first and len(set(seen)) > most - failing else Turn()

    stub.script = script
    finished = soak(stub.url, tmp_path, {"questions": most, **flags}, corpus=7)
    rows = read(finished.bundle / "journal.sqlite", "question")
    failed = {row["question_id"] for row in rows if row["outcome"] == "failed"}
    again = {row["question_id"] for row in rows if row["attempt"] == 2}
    assert failed
    assert again == failed
    assert {row["question_id"] for row in rows if row["outcome"] == "ok"} == {row["question_id"] for row in rows}
    account = finished.summary["accounting"]
    assert (account["ok"], account["sent"]) == (most, most + len(failed))
    assert finished.exit_code == 0


def test_a_question_that_fails_again_ends_the_run_all_the_same(stub: StubVllm, tmp_path: Path) -> None:
    """One further attempt is owed, not one after the other for ever."""
    stub.script = lambda _: Turn(after=0, then="reset")
    finished = soak(stub.url, tmp_path, {"questions": 2}, corpus=7)
    account = finished.summary["accounting"]
    assert (account["sent"], account["ok"], account["failed"]) == (4, 0, {"connection": 4})


def test_row_27_a_store_that_changes_is_noted(stub: StubVllm, tmp_path: Path) -> None:
    """The store then is not the one that was checked; hours of quality and tokens would drift without a reason."""

    class Growing(StubStore):
        def mark(self) -> Mark:
            return Mark(500 + bool(self.searches), None)

    finished = soak(stub.url, tmp_path, {"questions": 3}, store=Growing())
    assert [(row["action"], row["detail"]) for row in finished.summary["actions"]] == [
        ("store changed", "500 documents, then 501 documents")
    ]


def test_a_disk_that_cannot_be_asked_holds_the_run_and_ends_nothing(stub: StubVllm, tmp_path: Path) -> None:
    """A network file system that is away for a moment: statvfs raises, and that was the end, with a traceback."""
    answers = iter([2**40, OSError(116, "Stale file handle"), OSError(5, "Input/output error")])

    def free(_: object) -> int:
        reported = next(answers, 2**40)
        if isinstance(reported, OSError):
            raise reported
        return reported

    finished = soak(stub.url, tmp_path, {"duration": "2s"}, free=free)
    rows = read(finished.bundle / "journal.sqlite", "action")
    assert [row["action"] for row in rows] == ["pause", "lift"]
    assert finished.exit_code == 0


def test_a_journal_that_cannot_be_read_for_a_moment_ends_nothing(
    stub: StubVllm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line on the console and a segment's summary are read from it; both can do without, and the report comes."""

    def broken(*_: object) -> None:
        raise UsageError("The journal cannot be read: database is locked.")

    monkeypatch.setattr(display_module.RecentFigures, "read", broken)
    with monkeypatch.context() as patch:
        calls, whole = count(), SoakRecord.summary
        patch.setattr(
            SoakRecord,
            "summary",
            lambda self, stretch: broken() if stretch is not EVERYTHING and next(calls) == 0 else whole(self, stretch),
        )
        finished = soak(stub.url, tmp_path, {"questions": 12, "segment": "0.2s"})
    assert finished.exit_code == 0
    assert sum(segment["summary"]["sent"] for segment in finished.summary["segments"]) == 12
