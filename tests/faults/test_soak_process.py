"""Row 14 for a soak: signals, a SIGKILL, and going on as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stubs.questions import questions_about
from tests.stubs.soak import RUN
from tests.stubs.vllm import StubVllm, Turn
from workload.record.journal import read
from workload.soak.question_stream import QuestionStream
from workload.soak.record import SoakRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
FLAGS = {"questions": 60, "concurrency": 3, "segment": "1s"}

pytestmark = pytest.mark.faults


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Return a stub whose questions take about a fifth of a second."""
    with StubVllm() as server:
        server.script = lambda _: Turn(seconds=0.04)
        yield server


def begin(stub: StubVllm, folder: Path) -> subprocess.Popen[bytes]:
    """Start the soak, or go on with it."""
    argv = [sys.executable, "-m", "tests.stubs.soak_process", stub.url, str(folder), json.dumps(FLAGS)]
    return subprocess.Popen(argv, cwd=ROOT)


def until(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until something has happened in a process that runs, at most a minute."""
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def journal_of(folder: Path) -> Path:
    """Return where the soak's journal is."""
    return folder / "runs" / RUN / "journal.sqlite"


def acknowledged(folder: Path) -> int:
    """Return how many questions are acknowledged by now."""
    path = journal_of(folder)
    has_begun = (path.parent / "checkpoint.json").exists()  # before that the journal may be half made
    if not has_begun:
        return 0
    return sum(1 for _ in SoakRecord(path).rows("SELECT 1 FROM question WHERE outcome = 'ok'"))


def test_row_14_a_killed_soak_goes_on_and_loses_nothing(stub: StubVllm, tmp_path: Path) -> None:
    """Twice SIGKILL: every question of an uninterrupted run is answered exactly once, in the end."""
    for _ in range(2):
        before = acknowledged(tmp_path)
        process = begin(stub, tmp_path)
        until(lambda before=before: acknowledged(tmp_path) >= before + 5, process)  # type: ignore[misc]
        reported = SoakRecord(journal_of(tmp_path)).rows("SELECT block, question_id FROM question WHERE outcome = 'ok'")
        kept = {tuple(row) for row in reported}
        process.send_signal(signal.SIGKILL)
        process.wait()
        rows = read(journal_of(tmp_path), "question")
        assert kept <= {(row["block"], row["question_id"]) for row in rows if row["outcome"] == "ok"}
    assert begin(stub, tmp_path).wait(timeout=90) == 0
    rows = read(journal_of(tmp_path), "question")
    answered = Counter((row["block"], row["question_id"]) for row in rows if row["outcome"] == "ok")
    assert set(answered.values()) == {1}
    assert len(answered) == FLAGS["questions"]
    cut = [row for row in rows if row["reason"] == "interrupted"]
    # What was in flight may not have been on disk yet; what was is marked, and was asked again.
    assert len(cut) <= 2 * 3
    assert all((row["block"], row["question_id"]) in answered for row in cut)
    stream = QuestionStream(questions_about(range(7)), 0)
    uninterrupted = {(item.lap, item.question.id) for item in (stream.take() for _ in range(len(answered)))}
    assert answered.keys() == uninterrupted
    segments = read(journal_of(tmp_path), "segment")
    assert [row["id"] for row in segments] == list(range(len(segments)))
    assert all(row["ended_at"] >= row["started_at"] and json.loads(row["summary"]) for row in segments)


def test_row_14_the_first_signal_ends_in_order(stub: StubVllm, tmp_path: Path) -> None:
    """What is under way is answered, the report is written, and the exit code names the signal."""
    process = begin(stub, tmp_path)
    until(lambda: acknowledged(tmp_path) >= 5, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    rows = read(journal_of(tmp_path), "question")
    assert {row["outcome"] for row in rows} == {"ok"}
    summary = json.loads((journal_of(tmp_path).parent / "summary.json").read_text())
    assert summary["ending"] == "SIGTERM"
    manifest = json.loads((journal_of(tmp_path).parent / "manifest.json").read_text())
    assert manifest["status"] == "interrupted"


def test_row_14_the_second_signal_ends_at_once(stub: StubVllm, tmp_path: Path) -> None:
    """An engine that hangs would keep the first one waiting; what was acknowledged is on disk already."""
    process = begin(stub, tmp_path)
    until(lambda: acknowledged(tmp_path) >= 5, process)
    stub.hangs = True
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130  # what is in flight hangs still: nothing but the signal can have ended it
    stub.hangs = False
    assert begin(stub, tmp_path).wait(timeout=90) == 0
