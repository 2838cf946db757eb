"""An interrupted attempt counts nowhere: a run that was cut and resumed reports what an uncut one reports.

The attempts are the real meter's on a journal of ours. Ctrl-C unwinds what is under way, which writes its rows as
failed; SIGKILL writes nothing more. Both leave rows of a question that was not acknowledged and is asked again.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.agent.usage import Usage
from tests.stubs.agent import bench
from tests.stubs.run import measured
from workload.experiments.latency import reduce
from workload.kv_cache.recorded import read_calls
from workload.record.history import read_history
from workload.record.journal import Journal
from workload.record.results import RunData, read_run
from workload.soak.record import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.agent.metering import Meter

WORKLOAD = Path(__file__).parents[3] / "workload"
ARM = "base"
# What distinguishes one attempt from another, and nothing that was measured.
IDENTITY = {"id", "question", "started_at", "intended_at", "segment", "attempt", "is_windowed"}
PLACE = {"arm": ARM, "block": 0, "phase": "c1"}


class Clock:
    """The given number of whole seconds."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class MortalJournal(Journal):
    """Writes nothing after its process was killed."""

    is_dead = False

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Queue a row while alive."""
        if not self.is_dead:
            super().insert(table, row)

    def update(self, table: str, row_id: int, row: Mapping[str, Any]) -> None:
        """Queue a change while alive."""
        if not self.is_dead:
            super().update(table, row_id, row)


@dataclasses.dataclass
class Process:
    """One process of a run: it asks questions until it is cut after `steps` steps."""

    journal: MortalJournal
    meter: Meter
    clock: Clock
    steps: int | None
    is_killed: bool

    def step(self, seconds: float) -> None:
        """Let time pass, unless this is where the process is cut."""
        if self.steps is not None:
            self.steps -= 1
            if self.steps < 0:
                self.journal.is_dead = self.is_killed
                raise KeyboardInterrupt
        self.clock.now += seconds

    def ask(self, name: str, hops: int, segment: int, attempt: int) -> None:
        """Ask a question of some hops."""
        question = self.meter.question("0", "bridge")
        question.open({**PLACE, "segment": segment, "question_id": name, "attempt": attempt})
        try:
            for hop in range(1, hops + 1):
                with question.node("retrieve", hop), question.stage("embed", hop):
                    self.step(1.0)
                question.prefetched(hop, "used", self.clock.now, 1.0, 0.0)
                with question.node("decide", hop), question.call("decide", hop) as call:
                    self.step(2.0)
                    call.first_token()
                    call.prompt_ids(range(32 * hop))
                    self.step(3.0)
                    call.finished(Usage(32 * hop, 4, 0, "stop"), range(4))
                    call.said([{"role": "user", "content": name}], "yes")
            with question.node("generate", hops):
                self.step(1.0)
        except KeyboardInterrupt:
            question.close("cancelled", "error", 0, {})
            raise
        question.close("ok", "done", hops, dict.fromkeys(METRICS, 1.0))


def run(path: Path, asked: Mapping[str, int], cuts: Sequence[tuple[int, bool]]) -> RunData:
    """Ask all questions in a process for each cut, and a last one that ends; return what the analysis sees."""
    clock = Clock()
    for number, (steps, is_killed) in enumerate((*cuts, (None, False))):
        with MortalJournal(path, {}) as journal:
            journal.close_interrupted()
        history = read_history(path, ())
        place = (ARM, 0, "c1")
        done = history.acknowledged.get(place, frozenset())
        before = history.interrupted.get(place, {})
        with MortalJournal(path, {}) as journal:
            meter = bench(16, journal, keeps_text=True, clock=clock, wall=clock).meter
            process = Process(journal, meter, clock, steps, is_killed)
            try:
                for name, hops in asked.items():
                    if name not in done:
                        process.ask(name, hops, number, before.get(name, 0) + 1)
            except KeyboardInterrupt:
                continue
    window = measured(ARM)
    return read_run(path, [dataclasses.replace(window, window=dataclasses.replace(window.window, segment=len(cuts)))])


def counted(rows: Sequence[Mapping[str, Any]]) -> Counter[tuple[Any, ...]]:
    """Return how often each row is there, whichever attempt it is of."""
    return Counter(
        tuple(sorted((key, value) for key, value in row.items() if key not in IDENTITY and value is not None))
        for row in rows
    )


@given(
    asked=st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), min_size=1),
    cuts=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=3),
)
@settings(max_examples=12, phases=[Phase.explicit, Phase.generate])
def test_row_14_a_run_that_was_cut_anywhere_reports_what_an_uncut_one_reports(
    asked: dict[str, int], cuts: list[tuple[int, bool]]
) -> None:
    """The table said n = 9 for 8 questions: the tenth call was of an attempt without an answer."""
    with TemporaryDirectory() as folder:
        whole, cut = (run(Path(folder) / name, asked, found) for name, found in (("whole", ()), ("cut", cuts)))
        for table in ("questions", "calls", "visits", "stages", "prefetches"):
            # the reuse bound is of a start of the engine, and each of these processes is one
            rows = [[{**row, "reusable_tokens": None} for row in getattr(data, table)] for data in (whole, cut)]
            assert counted(rows[0]) == counted(rows[1]), table
        assert reduce(cut) == reduce(whole)
        of_bound = [
            Counter((sent.call.question, sent.call.node, sent.call.hop) for sent in read_calls(path)[ARM])
            for path in (Path(folder) / "whole", Path(folder) / "cut")
        ]
        assert of_bound[0] == of_bound[1]
        assert {row["outcome"] for row in cut.uncounted} <= {"failed", "ok"}


def test_nothing_else_reads_what_counts_from_a_journal() -> None:
    """A second reader would have a rule of its own for what counts; the texts, a replay and a soak are none of it."""
    allowed = {"record/results.py", "record/history.py", "agent/replay.py"}
    pattern = re.compile(r"journal\.read\w*\([^)]*(\"question\"|\"llm_call\"|\"node_visit\"|\"stage\"|\"prefetch\")")
    found = {
        path.relative_to(WORKLOAD).as_posix() for path in WORKLOAD.rglob("*.py") if pattern.search(path.read_text())
    }
    assert found == allowed
