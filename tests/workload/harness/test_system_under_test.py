"""The system under test: wired to one engine and to nothing else, and served for as long as it lives."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.kv_publisher import PublishingVllm, StubPublisher
from tests.stubs.vllm import StubVllm, Turn
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.harness import system_under_test
from workload.harness.process_memory import settled_heap
from workload.harness.system_under_test import SystemUnderTest, reachable, serve_agent
from workload.record.journal import Journal, read
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Return a running stub server."""
    with StubVllm() as server:
        yield server


def under_test(stub: StubVllm, argv: tuple[str, ...] | None = None, journal: Journal | None = None) -> Any:
    """Return the context in which the agent is served."""
    with open_client(stub.url, 5.0) as client:
        facts = read_facts(client)
    engine = RunningEngine(stub.url, facts, argv, None)
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5}, {})
    return serve_agent(engine, settings, cast("Any", StubStore()), StubEmbedder(), journal=journal)


def ask(running: SystemUnderTest) -> str | None:
    """Ask one question; return why it failed, None when it did not."""
    question = running.meter.question("0", "bridge")
    return running.run(running.driver.agent.answer({"question": "When?"}, question)).reason


def counted_fates(running: SystemUnderTest) -> Counter[str]:
    """Return the prompt tokens by fate, as the metrics have them."""
    counted: Counter[str] = Counter()
    for family in running.registry.collect():
        for sample in family.samples:
            if sample.name == "hop2rag_prompt_token_fate_total":
                counted[sample.labels["fate"]] += int(sample.value)
    return counted


def test_its_metrics_are_served_while_it_lives(stub: StubVllm) -> None:
    """Prometheus scrapes each arm's own process; what is read once from the engine is next to what is counted."""
    with under_test(stub) as running:
        assert ask(running) is None
        text = httpx.get(f"http://{running.address}/metrics").text
        address = running.address
    for line in (
        'hop2rag_vllm_info{version="0.32.0"} 1.0',
        'hop2rag_node_duration_seconds_count{node="decide"} 1.0',
        'hop2rag_completion_tokens_total{hop="1",node="generate"} 3.0',
        "hop2rag_vllm_kv_pool_bytes 1.073741824e+09",
    ):
        assert line in text
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/metrics")


def test_each_engine_has_instruments_of_its_own(stub: StubVllm) -> None:
    """A counter that went on under the next arm's labels would credit it with what the first had done."""
    with under_test(stub) as running:
        ask(running)
    with under_test(stub) as running:
        text = httpx.get(f"http://{running.address}/metrics").text
    assert 'hop2rag_questions_total{outcome="ok",termination="enough"} 0.0' in text
    assert 'hop2rag_node_duration_seconds_count{node="decide"} 0.0' in text


def test_every_prompt_token_is_counted_with_its_fate(tmp_path: Path) -> None:
    """The counters say why each prompt token was computed, and the journal says it of each call."""
    with (
        StubPublisher() as publisher,
        PublishingVllm(publisher) as stub,
        Journal(tmp_path / "journal.sqlite", {}) as journal,
    ):
        with under_test(stub, stub.argv, journal) as running:
            assert ask(running) is None
        fates, hits = counted_fates(running), stub.counts["hits"]
    assert sum(fates.values()) == stub.counts["prompt"]
    assert (fates["hit"], fates["unknown"]) == (hits, 0)
    assert fates["cold"] > 0
    assert {body["vllm_xargs"]["kv_cache_report_mode"] for body in stub.requests} == {"full"}
    rows = read(tmp_path / "journal.sqlite", "token_fate")
    assert len({body["session_id"] for body in stub.requests}) == len(stub.requests) == len(rows)
    assert {fate: sum(row[fate] for row in rows) for fate in fates} == fates
    assert all(row["bound"] == row["in_fleet"] == row["on_engine"] == row["hit"] for row in rows)


def test_an_engine_without_events_gets_requests_as_before(stub: StubVllm) -> None:
    """The fields are for engines that know them; the fate of what is no hit is then unknown, and said to be."""
    with under_test(stub) as running:
        assert ask(running) is None
    assert not any({"session_id", "vllm_xargs"} & set(body) for body in stub.requests)
    counted = counted_fates(running)
    assert counted["hit"] == stub.counts["hits"]
    assert counted["unknown"] > 0
    assert counted["cold"] == 0


def test_no_proxy_stands_between(stub: StubVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment would be measured with the engine, or not find 127.0.0.1 at all."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with under_test(stub) as running:
        assert ask(running) is None


def test_row_20_a_redirect_leads_nowhere(stub: StubVllm) -> None:
    """The endpoint was checked, what it points to was not: it may be a cloud's metadata service."""
    with StubVllm() as elsewhere, under_test(stub) as running:
        target = f"{elsewhere.url}/v1/chat/completions"
        stub.script = lambda _: Turn(status=307, headers={"Location": target})
        assert ask(running) == "rejected"
        assert elsewhere.requests == []


def test_in_a_container_the_targets_name_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0.0.0 is where it listens; Prometheus, in another container, needs a name."""
    monkeypatch.setattr("socket.gethostname", lambda: "0123456789ab")
    assert reachable("0.0.0.0:9500") == "0123456789ab:9500"
    assert reachable("127.0.0.1:40001") == "127.0.0.1:40001"


def test_no_full_collection_stops_the_questions(stub: StubVllm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause of the client in the middle of a load is measured as a slow engine; afterwards all is collected again."""
    monkeypatch.setattr(system_under_test, "settled_heap", settled_heap)

    async def frozen() -> int:
        await asyncio.sleep(0)
        return gc.get_freeze_count()

    before = gc.get_freeze_count()
    with under_test(stub) as running:
        assert running.run(frozen()) > before + 10_000
    assert gc.get_freeze_count() == 0
