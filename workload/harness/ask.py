"""`hop2rag ask`: one question, and the trace of its nodes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from exporter.plain_text import plain
from workload.compose.configs import LIVE
from workload.corpus.default import open_corpus
from workload.corpus.embedding import MiniLmEmbedder
from workload.engine.attach import AttachLauncher
from workload.engine.profile import DEFAULT, PROFILES
from workload.harness.backends import check_engine, engine_of, launcher_of, requester
from workload.harness.stay_up_state import UpState, read_up_state
from workload.harness.system_under_test import SystemUnderTest, serve_agent
from workload.paths import cache_dir
from workload.report.console import say
from workload.services.locks import FileLock, Requester
from workload.services.process import HOST
from workload.services.prometheus import PrometheusClient
from workload.services.prometheus_server import loopback_session, targets_folder
from workload.services.scrape_registration import scraped, wait_for_scrapes
from workload.services.targets import TargetFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console
    from rich.progress import Progress

    from workload.agent.graph import Answer
    from workload.engine.launcher import Launcher, RunningEngine
    from workload.engine.settings import EngineSettings
    from workload.settings import Places, Settings

TOKEN_COLUMNS = ("prompt_tokens", "cached_tokens", "reusable_tokens", "completion_tokens")


@dataclass(frozen=True)
class Answered:
    """An answer with the records of its node visits and LLM calls."""

    answer: Answer
    visits: list[dict[str, Any]]
    calls: list[dict[str, Any]]

    def show(self, console: Console) -> None:
        """Print the trace and the answer."""
        table = Table("node", "hop", "seconds", "TTFT s", "prompt", "cached", "bound", "generated", box=None)
        started = {(call["node"], call["hop"]): call for call in self.calls}
        for visit in self.visits:
            if "node" not in visit:
                name = f"  {visit['stage']}"
                table.add_row(name, str(visit["hop"]), f"{visit['duration_seconds']:.3f}", style="dim")
                continue
            call = started.get((visit["node"], visit["hop"]))
            known = [call.get(column) for column in TOKEN_COLUMNS] if call else []
            tokens = ["" if count is None else str(count) for count in known]
            ttft = f"{call['ttft_seconds']:.3f}" if call and call["ttft_seconds"] is not None else ""
            seconds = f"{visit['duration_seconds']:.3f}"
            table.add_row(visit["node"], str(visit["hop"]), seconds, ttft, *tokens)
        console.print(table)
        for hop, query in enumerate(self.answer.trajectory["queries"], start=1):
            say(console, f"query {hop}: {query}")
        for title, sentence in self.answer.supporting_facts:
            say(console, f"supporting fact: {title}, sentence {sentence}")
        end = self.answer.reason or f"{self.answer.termination} after {self.answer.hops} hops"
        console.print(Text.assemble(("Answer:", "bold"), plain(f" {self.answer.answer or '(none)'}  ({end})")))


def ask_once(question: str, settings: Settings, progress: Progress, show: Callable[[Answered], object]) -> None:
    """Answer one question on the running engine, or start one for it, and show the answer.

    If `hop2rag up` runs that engine, its Prometheus scrapes the agent too.
    """
    embedder = MiniLmEmbedder()
    places = settings.places
    check_engine(settings.engine, places)
    corpus = open_corpus(settings.corpus, places.chroma_url, embedder, progress)
    by = requester(progress.console)
    choose_launcher = launcher_of if pending_restart(places) else launcher_in_use
    with (
        engine_of(places).acquire(by=by),
        choose_launcher(settings.engine, places, progress.console).start(PROFILES[DEFAULT]) as engine,
        serve_agent(engine, settings, corpus.store, embedder) as under_test,
        watched(places, engine, under_test, embedder.load, by),
    ):
        meter = under_test.meter.question("0", "other")
        answer = under_test.run(under_test.driver.agent.answer({"question": question}, meter))
        meter.close("failed" if answer.reason else "ok", answer.termination, answer.hops, {"reason": answer.reason})
        show(Answered(answer, meter.visits, meter.calls))


def up_state_of(places: Places) -> UpState | None:
    """Return the `hop2rag up` that keeps the engine on this port, if one runs."""
    up_state = read_up_state(cache_dir())
    return up_state if up_state and up_state.lives and up_state.engine_port == places.engine_port else None


def launcher_in_use(engine: EngineSettings, places: Places, console: Console) -> Launcher:
    """Return a launcher that attaches to the engine of `hop2rag up`, whatever its flags; else the launcher of a run."""
    if places.vllm_endpoint or not up_state_of(places):
        return launcher_of(engine, places, console)
    return AttachLauncher(f"http://{HOST}:{places.engine_port}", console)


def pending_restart(places: Places) -> tuple[str, ...]:
    """Return, in words, that `hop2rag up` has lent its engine's port and will start its engine again."""
    up_state = None if places.vllm_endpoint else up_state_of(places)
    return ("hop2rag up starts its engine",) if up_state and "engine" not in up_state.children else ()


@contextmanager
def watched(
    places: Places, engine: RunningEngine, under_test: SystemUnderTest, meanwhile: Callable[[], object], by: Requester
) -> Iterator[None]:
    """Have the Prometheus of a running `hop2rag up`, if any, scrape the agent and its engine inside the block."""
    cache, up_state = cache_dir(), up_state_of(places)
    if not up_state:
        meanwhile()
        yield
        return
    targets = TargetFiles(targets_folder(cache, up_state.prometheus_port))
    client = PrometheusClient(f"http://{HOST}:{up_state.prometheus_port}", loopback_session())
    addresses = {"vllm": [engine.endpoint], "workload": [under_test.address]}
    used = FileLock(targets.folder, f"Prometheus on port {up_state.prometheus_port}")
    with used.acquire(by=by), scraped(targets, client, LIVE, addresses, meanwhile) as seen:
        yield
        wait_for_scrapes(client, LIVE, seen, time.time())
