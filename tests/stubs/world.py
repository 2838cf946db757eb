"""A whole run with nothing real around it: engine, Prometheus, corpus and model are stubs, everything of ours is real.

`Journal` is watched from outside the journal: an acknowledgement is written to another file the moment it is given.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch

import numpy as np
import requests

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.vllm import StubVllm
from workload.corpus.default import Corpus
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.record.journal import Journal
from workload.services.prometheus import NoDataError, PrometheusClient, Sample, Series
from workload.services.targets import JOBS, TIMELINES, TargetFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.stubs.vllm import Turn
    from workload.corpus.hotpotqa import Question
    from workload.engine.profile import VllmProfile

    Script = Callable[[Mapping[str, Any]], Turn]

# As with the interval of vllm-fast: between an answer and its window lies a time in which a run may be killed.
SCRAPE_DELAY_SECONDS = 0.1


class Embedder(StubEmbedder):
    """Nothing to load."""

    def load(self) -> None:
        """Load nothing."""


class UpOnly(PrometheusClient):
    """A Prometheus that scrapes every target a tenth of a second after it is asked, and knows nothing else."""

    def __init__(self, targets: Path) -> None:
        super().__init__("http://prometheus.invalid", requests.Session())
        self.targets = targets

    def raw(self, selector: str, start: float, end: float) -> list[Series]:
        """Return `up` of all targets; nothing else has samples."""
        if not selector.startswith("up{") or time.time() < start + SCRAPE_DELAY_SECONDS:
            raise NoDataError(selector, (start, end))
        return [
            Series({"job": job, "instance": address}, np.array([start + SCRAPE_DELAY_SECONDS]), np.ones(1))
            for source in JOBS
            for job in (source, *([JOBS[source]] if source in TIMELINES else ()))
            for group in json.loads((self.targets / f"{source}.json").read_text())
            for address in group["targets"]
        ]

    def scrape_errors(self) -> dict[tuple[str, str], str]:
        """Scrape nothing any more as soon as the targets are gone."""
        return {}

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """Find nothing."""
        raise NoDataError(promql, None if at is None else (at, at))

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Series]:  # noqa: ARG002
        """Find nothing."""
        raise NoDataError(promql, (start, end))


class StubPrometheus:
    """In the place of `LocalPrometheus`."""

    def __init__(self, binary: object, cache: Path, session: object, **_: object) -> None:
        del binary, session
        self.targets = TargetFiles(cache / "targets")
        self.client = UpOnly(self.targets.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return


@dataclass(frozen=True)
class StubLauncher:
    """Starts a stub server in this process: it dies with it, as an engine of ours does."""

    script: Script

    @contextmanager
    def start(self, profile: VllmProfile) -> Iterator[RunningEngine]:
        """Run a stub of a profile."""
        with StubVllm(caching=profile.prefix_caching is not False) as server:
            server.script = self.script
            with open_client(server.url) as client:
                facts = read_facts(client)
            yield RunningEngine(server.url, facts, None, os.getpid())


class WatchedJournal(Journal):
    """Appends to `$ACKNOWLEDGED` a line for each question that was acknowledged, once it was.

    A line that is in the page cache outlives a SIGKILL of its writer.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._sent: dict[int, list[Any]] = {}
        self._closed: list[list[Any]] = []
        super().__init__(path, config)

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Remember which question is which row."""
        if table == "question":
            self._sent[row["id"]] = [row[name] for name in ("arm", "block", "phase", "question_id")]
        super().insert(table, row)

    def update(self, table: str, row_id: int, row: Mapping[str, Any]) -> None:
        """Remember that a question has ended."""
        super().update(table, row_id, row)
        if table == "question" and row["outcome"] in {"ok", "failed"}:
            self._closed.append([*self._sent[row_id], row["outcome"]])

    async def acknowledge(self) -> None:
        """Acknowledge, then notify."""
        closed, self._closed = self._closed, []
        await super().acknowledge()
        lines = "".join(f"{json.dumps([str(self.path), *line])}\n" for line in closed)
        reported = os.open(os.environ["ACKNOWLEDGED"], os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        os.write(reported, lines.encode())
        os.close(reported)


@contextmanager
def stub_world(
    questions: tuple[Question, ...], model: Path, script: Script, store: StubStore | None = None
) -> Iterator[None]:
    """Put stubs around every run of this process.

    Args:
        questions: the corpus' questions.
        model: the folder of a tokenizer, for kv-cache.
        script: what the engine does with each completion.
        store: what is found, whatever is searched.
    """

    def corpus(*_: object) -> Corpus:
        return Corpus(store or StubStore(), questions)  # type: ignore[arg-type]

    replaced: dict[str, Any] = {
        "workload.harness.run.launcher_of": lambda *_: StubLauncher(script),
        "workload.harness.run.MiniLmEmbedder": Embedder,
        "workload.harness.backends.open_corpus": corpus,
        "workload.harness.backends.find_prometheus": lambda _: None,
        "workload.harness.backends.LocalPrometheus": StubPrometheus,
        "workload.harness.run.Journal": WatchedJournal,
        "workload.harness.runner.start_exporter": lambda *_: nullcontext("127.0.0.1:1"),
        "workload.kv_cache.run.MiniLmEmbedder": Embedder,
        "workload.kv_cache.run.open_corpus": corpus,
        "workload.kv_cache.run.find_installation": lambda _: SimpleNamespace(model=model),
    }
    with ExitStack() as stack:
        for name, stub in replaced.items():
            stack.enter_context(patch(name, stub))
        yield
