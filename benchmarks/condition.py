"""One condition of a benchmark: the agent's questions on a running engine, and what the engine counted meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from workload.engine.endpoint import open_client
from workload.harness.driver import Phase
from workload.harness.loops import Tally
from workload.harness.system_under_test import serve_agent
from workload.promql.vllm_metrics import COUNTERS
from workload.record.results import Measured
from workload.record.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.progress import Progress

    from workload.agent.replay import Script
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.corpus.store import Store
    from workload.engine.launcher import RunningEngine
    from workload.record.journal import Journal
    from workload.settings import Settings

# The engine adds to its counters after the last token has left it.
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class Bench:
    """What all conditions have in common. `run` isolates their cache entries from those of any earlier run."""

    run: str
    questions: Sequence[Question]
    store: Store
    embedder: Embedder
    journal: Journal
    script: Script | None
    progress: Progress

    def measure(self, engine: RunningEngine, settings: Settings, name: str) -> Measured:
        """Ask all questions at the first concurrency of the settings, under a cache salt of their own.

        Raises:
            Hop2RagError: the engine or the store stopped answering.
        """
        concurrency = settings.load.concurrency[0]
        phase = Phase(arm=name, block=0, name=f"c{concurrency}", segment=0, salt=f"{self.run}-{name}")
        tally = Tally(len(self.questions))
        task = self.progress.add_task(name, total=tally.scheduled)
        with serve_agent(
            engine, settings, self.store, self.embedder, journal=self.journal, script=self.script
        ) as under_test:
            before, start = counters(engine.endpoint), time.time()
            under_test.run(
                under_test.driver.run(
                    phase, self.questions, concurrency, tally=tally, advance=lambda: self.progress.advance(task)
                )
            )
            time.sleep(SETTLE_SECONDS)
            after, end = counters(engine.endpoint), time.time()
        grown = {name: after[name] - before.get(name, 0.0) if name in after else None for name in COUNTERS}
        window = Window(arm=phase.arm, block=phase.block, point=phase.name, segment=phase.segment, start=start, end=end)
        return Measured(window, engine.facts.as_dict(), grown, tally.as_dict())


def counters(endpoint: str) -> Mapping[str, float]:
    """Return those of vLLM's counters that a run is judged by, summed over its engines; one it lacks is left out."""
    with open_client(endpoint) as client:
        families = text_string_to_metric_families(client.get("/metrics").raise_for_status().text)
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples if sample.name in COUNTERS):
        found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found
