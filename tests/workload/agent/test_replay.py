"""A replay does the recorded work again: the same calls, lengths and, where the text is forced, the same cache."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.stubs.agent import StubEmbedder, StubStore, bench, client_of
from tests.stubs.vllm import StubVllm
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm, LlmError
from workload.agent.nodes import Hop2RagNodes
from workload.agent.replay import Recorded, ReplayLlm, read_script
from workload.agent.retrieval import Retrieval
from workload.errors import UsageError
from workload.record.journal import Journal, read

if TYPE_CHECKING:
    from pathlib import Path

    import openai

    from workload.record.results import Row
    from workload.settings import Layout

COLUMNS = ("node", "hop", "prompt_tokens", "cached_tokens", "reusable_tokens", "completion_tokens")


def ask(path: Path, layout: Layout, script_of: Path | None = None, *, is_forced: bool = False) -> list[Row]:
    """Ask a question on a fresh stub, live or replaying a journal; return what it computed, call by call."""

    async def run() -> None:
        with StubVllm() as server, Journal(path, {}) as journal:
            async with client_of(server.url) as client:
                script = read_script(script_of) if script_of else {}
                llm = ReplayLlm(client, "stub", script=script, is_forced=is_forced) if script else Llm(client, "stub")
                nodes = Hop2RagNodes(llm, Retrieval(StubEmbedder(), StubStore()), max_hops=2, layout=layout)
                meter = bench(journal=journal, keeps_text=True).meter
                question = meter.question("0", "bridge", "salt")
                place = {"arm": "a", "block": 0, "phase": "c1", "segment": 0, "attempt": 1}
                question.open({"question_id": "q", **place})
                answer = await Hop2Rag(nodes).answer({"question": "When?"}, question)
                question.close("ok", answer.termination, answer.hops, {})

    asyncio.run(run())
    return [{name: row[name] for name in COLUMNS} for row in read(path, "llm_call")]


@pytest.mark.parametrize("layout", ["original", "append-only"])
def test_a_forced_replay_computes_and_caches_what_the_record_did(tmp_path: Path, layout: Layout) -> None:
    """A growing log sends each reply again: were another text in the cache, the layout would look worse than it is."""
    live = ask(tmp_path / "live", layout)
    assert ask(tmp_path / "forced", layout, tmp_path / "live", is_forced=True) == live


def test_a_free_replay_leaves_replies_in_the_cache_that_nobody_sends(tmp_path: Path) -> None:
    """That is what forcing is for: the prompts are the same, and less of them is served."""
    live = ask(tmp_path / "live", "append-only")
    free = ask(tmp_path / "free", "append-only", tmp_path / "live")
    assert [row["prompt_tokens"] for row in free] == [row["prompt_tokens"] for row in live]
    assert sum(row["cached_tokens"] for row in free) < sum(row["cached_tokens"] for row in live)
    assert [row["cached_tokens"] for row in free] == [row["reusable_tokens"] for row in free]


def test_a_run_without_texts_cannot_be_replayed(tmp_path: Path) -> None:
    """It would fail at the first call of every question; it fails before an engine is started."""
    with Journal(tmp_path / "empty", {}):
        pass
    with pytest.raises(UsageError, match="--record-prompts"):
        read_script(tmp_path / "empty")


@pytest.mark.parametrize("length", [-1, 10**12])
def test_row_21_a_reply_of_an_impossible_length_is_refused(tmp_path: Path, length: int) -> None:
    """A forged journal has sound checksums; the engine would be asked for a billion tokens."""
    ask(tmp_path / "live", "original")
    with Journal(tmp_path / "live", {}) as journal:
        journal.update("llm_call", 1, {"completion_tokens": length})
    with pytest.raises(UsageError, match="impossible length"):
        read_script(tmp_path / "live")


async def test_a_record_that_does_not_go_on_is_a_failed_question(client: openai.AsyncOpenAI) -> None:
    """Another max_hops asks what was never recorded; an invented reply would be another trajectory."""
    question = bench().meter.question("0", "bridge")
    question.question_id = "q"
    llm = ReplayLlm(client, "stub", script={"q": (Recorded("decide", "{}", 2),)})
    with pytest.raises(LlmError) as raised:
        await llm.complete(question, "decompose", 1, [{"role": "user", "content": "x"}], 5)
    assert raised.value.reason == "not_recorded"
