"""Row 14: a run that is killed, terminated or interrupted goes on, and no acknowledged question is lost or asked twice.

The sweeps are those of benchmarks/sigkill.py, with few kills; the seed of each is new and printed.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from tests.stubs.run import measured
from tests.stubs.vllm import Turn
from tests.stubs.world import stub_world
from workload.cli import run_command_line
from workload.corpus.synthetic import generate
from workload.errors import UsageError
from workload.experiment import Experiment
from workload.experiments import EXPERIMENTS
from workload.harness.measurement import Measurement
from workload.harness.run import begin
from workload.record.bundle import Bundle
from workload.record.journal import Journal, read
from workload.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workload.services.targets import PhaseLabel

ROOT = Path(__file__).parents[2]
RUN = ("run", "latency", "--limit", "30", "--max-hops", "1", "--concurrency", "2", "--no-figures")
AB = ("ab", "--live", "--arm", "original", "--arm", "append-only", "--interleave", "2", "--limit", "5", "--no-figures")


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(["--kills", "6"], id="run"),
        pytest.param(["--suite", "--kills", "2"], id="suite"),
    ],
)
def test_row_14_random_kills_lose_nothing(flags: list[str]) -> None:
    """0 acknowledged questions lost, 0 counted twice, and the acknowledged set of an uninterrupted run."""
    command = [sys.executable, "benchmarks/sigkill.py", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost, 0 counted twice" in done.stdout
    assert f"{flags[-1]} kills over" in done.stdout


def start(
    folder: Path, *flags: str, seconds_a_call: float = 0.05, asked: tuple[str, ...] = RUN
) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.stub_run", folder, str(seconds_a_call), *asked, *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(happened: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    """Wait until something has happened, at most a minute."""
    deadline = time.monotonic() + 60
    while not happened():
        assert child.poll() is None, child.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def acknowledged(folder: Path) -> int:
    """Return how many questions were acknowledged."""
    reported = folder / "acknowledged"
    return len(reported.read_text().splitlines()) if reported.exists() else 0


def test_row_14_a_run_in_the_background_of_a_script_is_terminated(tmp_path: Path) -> None:
    """A shell without job control has `hop2rag ... &` ignore Ctrl-C; SIGTERM, and so `down`, must end it still."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a child inherits what is ignored
    try:
        child = start(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: acknowledged(tmp_path) >= 1, child)
    child.send_signal(signal.SIGTERM)
    printed = child.communicate(timeout=60)[0]
    assert child.returncode == 143, printed
    assert "Interrupted; acknowledged questions are in the journal." in printed


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGTERM], 143), ([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130)],
    ids=["SIGTERM", "Ctrl-C", "Ctrl-C twice"],
)
def test_row_14_an_interrupted_run_says_so_and_goes_on(tmp_path: Path, signals: list[int], code: int) -> None:
    """The exit code is the signal's, the manifest says `interrupted`, and --resume asks exactly what is left."""
    child = start(tmp_path)
    until(lambda: acknowledged(tmp_path) >= 8, child)
    for number in signals:
        child.send_signal(number)
        time.sleep(0.01)
    printed = child.communicate(timeout=60)[0]
    assert child.returncode == code, printed
    assert "Traceback" not in printed
    assert "Interrupted; acknowledged questions are in the journal." in printed
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"

    again = start(tmp_path, "--resume", folder.name, seconds_a_call=0.0)
    printed = again.communicate(timeout=60)[0]
    assert again.returncode == 0, printed
    assert f"Resuming {folder.name}: " in printed
    assert json.loads((folder / "manifest.json").read_text())["status"] == "finished"
    rows = [row for row in read(folder / "journal.sqlite", "question") if row["phase"] != "warm-up"]
    ended = Counter(row["question_id"] for row in rows if row["outcome"] == "ok")
    assert len(ended) == ended.total() == 30
    cut_short = [row for row in rows if row["outcome"] == "cancelled"]
    repeated = [row for row in rows if row["attempt"] == 2]
    assert {row["question_id"] for row in cut_short} == {row["question_id"] for row in repeated}


def test_row_14_a_comparison_in_short_turns_goes_on(tmp_path: Path) -> None:
    """Each place of ABBA answers every question once, in blocks of two; only a new engine is warmed up."""
    child = start(tmp_path, "--max-hops", "1", asked=AB)
    until(lambda: acknowledged(tmp_path) >= 8, child)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    again = start(tmp_path, "--max-hops", "1", "--resume", folder.name, seconds_a_call=0.0, asked=AB)
    printed = again.communicate(timeout=60)[0]
    assert again.returncode == 0, printed

    rows = read(folder / "journal.sqlite", "question")
    ended = [row for row in rows if row["outcome"] == "ok" and row["phase"] != "warm-up"]
    places = Counter((row["arm"], row["block"] % 4, row["question_id"]) for row in ended)
    assert len(places) == places.total() == 4 * 5
    assert {(arm, place) for arm, place, _ in places} == {
        ("original", 0),
        ("append-only", 1),
        ("append-only", 2),
        ("original", 3),
    }
    blocks = Counter(row["block"] for row in ended)
    assert [blocks[block] for block in sorted(blocks)] == [2] * 8 + [1] * 4
    assert sum(row["phase"] == "warm-up" and row["outcome"] == "ok" for row in rows) == 2


def test_row_14_a_run_that_goes_on_twice_is_refused(tmp_path: Path) -> None:
    """Two processes that resume the same run would ask, and count, every question twice."""
    path = tmp_path / "journal.sqlite"
    with Journal(path, {}), pytest.raises(UsageError, match="Another process is writing"):
        Journal(path, {})
    Journal(path, {}).close()


def test_row_14_a_journal_without_tables_is_new(tmp_path: Path) -> None:
    """A kill right after the file was made leaves an empty database: nothing was written, so nothing is lost."""
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert path.stat().st_size > 0
    assert read(path, "question") == []  # what a run that goes on looks at first
    Journal(path, {}).close()
    assert read(path, "question") == []


def test_row_16_windows_without_their_questions_are_refused(tmp_path: Path) -> None:
    """An emptied journal looks like one that was only just made; the manifest knows better."""
    bundle = Bundle(tmp_path, "run")
    bundle.start("vllm-metrics", {})
    bundle.note(measured=[measured().as_dict()])
    for content in (None, b""):
        if content is not None:
            bundle.journal.write_bytes(content)
        with pytest.raises(UsageError, match="lists 1 measured windows"):
            begin(
                Bundle(tmp_path, "run"),
                cast("Experiment", EXPERIMENTS["latency"]),
                Settings.of({"limit": 1, "max_hops": 1, "k": 1}),
            )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Put stubs around the runs of this process."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOP2RAG_CACHE", str(folder / "cache"))
        patch.setenv("ACKNOWLEDGED", str(folder / "acknowledged"))
        with stub_world(generate(questions=40, passages=120, seed=3), folder, lambda _: Turn()):
            yield


@pytest.mark.parametrize(
    ("name", "window"),
    [
        *((name, 1) for name, study in EXPERIMENTS.items() if isinstance(study, Experiment)),
        ("context-growth", 2),  # the sweep's, whose calls are no questions of the corpus
    ],
)
@pytest.mark.usefixtures("world")
def test_row_14_a_run_stopped_between_its_last_answer_and_its_window_ends(
    name: str, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to ask then; yet without a window there are no facts of the engine, and no figure's footer."""
    flags = ["run", name, "--limit", "2", "--max-hops", "1", "--order", "AB", "--results", str(tmp_path)]
    settled, calls = Measurement._settled, []

    async def stopped(self: Measurement, *label: PhaseLabel) -> float:
        if not label:  # a window's end: what enters a phase or ends a warm-up names it
            calls.append(self)
        if len(calls) == window:
            raise KeyboardInterrupt
        return await settled(self, *label)

    with monkeypatch.context() as patch:
        patch.setattr(Measurement, "_settled", stopped)
        assert run_command_line(flags) == 130
    (folder,) = (tmp_path / "runs").iterdir()
    asked = [row["question_id"] for row in read(folder / "journal.sqlite", "question") if row["phase"] != "warm-up"]
    assert run_command_line([*flags, "--resume", folder.name]) == 0
    rows = [row for row in read(folder / "journal.sqlite", "question") if row["phase"] != "warm-up"]
    assert [row["question_id"] for row in rows[: len(asked)]] == asked
    places = Counter((row["arm"], row["block"], row["phase"], row["question_id"]) for row in rows)
    assert max(places.values()) == 1
