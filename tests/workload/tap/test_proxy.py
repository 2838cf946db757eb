"""What passes through the tap, and what happens when either side fails."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.stubs.answers import CHAT, AnsweringVllm
from tests.stubs.vllm import Turn
from workload.errors import DependencyDownError, UsageError
from workload.tap.standalone import open_tap

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from workload.tap.serving import Tap

REPLY = {"messages": [{"role": "user", "content": "one two three " * 20}], "max_tokens": 8}


def samples(tap: Tap, client: httpx.Client) -> dict[str, float]:
    """Return the tap's metrics by name and labels."""
    page = client.get(f"{tap.url}/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    lines = [line.rpartition(" ") for line in page.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def increase(before: dict[str, float], after: dict[str, float], start: str) -> dict[str, float]:
    """Return what grew, among the series whose name begins like this."""
    grown = {name: value - before.get(name, 0) for name, value in after.items() if name.startswith(start)}
    return {name: value for name, value in grown.items() if value}


def test_bound_and_hits_are_those_of_the_server(vllm: AnsweringVllm, tap: Tap, client: httpx.Client) -> None:
    """A client that knows nothing of the tap gets tokens, hits and their bound; a node that it names has series."""
    before, hits = samples(tap, client), vllm.counts["hits"]
    for _ in range(2):
        answer = client.post(tap.url + CHAT, json={**REPLY, "stream": True}, headers={"X-Hop2rag-Node": "rewrite"})
        assert b"usage" not in answer.content
    grown = increase(before, samples(tap, client), "hop2rag_")
    labels = '{hop="1",node="rewrite"}'
    assert grown[f"hop2rag_cached_prompt_tokens_total{labels}"] == vllm.counts["hits"] - hits > 0
    assert (
        grown[f"hop2rag_reusable_prompt_tokens_total{labels}"] == grown[f"hop2rag_cached_prompt_tokens_total{labels}"]
    )
    assert grown[f"hop2rag_prompt_tokens_total{labels}"] == vllm.counts["prompt"]
    assert grown['hop2rag_llm_time_to_first_token_seconds_count{node="rewrite"}'] == 2
    assert not vllm.headers[-1].keys() & {"x-hop2rag-node", "x-hop2rag-question"}


def test_what_a_proxy_cannot_see_has_no_series(tap: Tap, client: httpx.Client) -> None:
    """No event can ever move a series of questions, nodes or retrieval here."""
    assert not [name for name in samples(tap, client) if "question" in name or "node_" in name or "retrieval" in name]


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"[" * 100_000, b"\xff"])
def test_a_request_that_is_no_object_is_the_servers_to_refuse(
    vllm: AnsweringVllm, tap: Tap, client: httpx.Client, content: bytes
) -> None:
    """The stub breaks off at what it cannot read; the tap answers that the server did."""
    before = len(vllm.heard)
    answer = client.post(tap.url + CHAT, content=content)
    assert answer.status_code == 502
    assert vllm.heard[before][0] == CHAT


def test_an_error_passes_as_it_is(vllm: AnsweringVllm, tap: Tap, client: httpx.Client) -> None:
    """Status, headers and body; the call counts as refused for load."""
    before = samples(tap, client)
    vllm.next_turns.append(Turn(status=429, message="later", headers={"Retry-After": "7"}))
    answer = client.post(tap.url + CHAT, json={**REPLY, "stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["message"] == "later"
    grown = increase(before, samples(tap, client), "hop2rag_llm_errors_total")
    assert grown == {'hop2rag_llm_errors_total{node="other",reason="overloaded"}': 1}


def test_other_paths(vllm: AnsweringVllm, tap: Tap, client: httpx.Client) -> None:
    """All of /v1 passes, with its query; what lies elsewhere is not the tap's."""
    assert client.get(f"{tap.url}/v1/models").json()["data"][0]["id"] == "stub"
    client.get(f"{tap.url}/v1/any%20thing?a=%2F&b=+")
    assert vllm.heard[-1][0] == "/v1/any%20thing?a=%2F&b=+"
    refused = client.get(f"{tap.url}/health")
    assert refused.status_code == 404
    assert "passes on /v1 only" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("then", "reason"), [("cut", "stream_cut"), ("reset", "stream_cut"), ("error", "server_error")]
)
def test_an_answer_that_breaks_off_does_not_look_complete(
    vllm: AnsweringVllm, tap: Tap, client: httpx.Client, then: Any, reason: str
) -> None:
    """The client sees what it would see without a tap, and the call counts as failed."""
    before = samples(tap, client)
    vllm.next_turns += [Turn(after=1, then=then)] * 2
    seen = []
    for url in (vllm.url, tap.url):
        try:
            seen.append(b"[DONE]" in client.post(url + CHAT, json={**REPLY, "stream": True}).content)
        except httpx.TransportError:
            seen.append("cut")
    assert seen[0] == seen[1] != True  # noqa: E712 - three values are possible
    grown = increase(before, samples(tap, client), "hop2rag_llm_errors_total")
    assert grown == {f'hop2rag_llm_errors_total{{node="other",reason="{reason}"}}': 1}


def test_a_client_that_leaves_ends_the_call(client: httpx.Client) -> None:
    """Whoever closes a connection must not leave the engine generating for nobody."""
    with AnsweringVllm() as vllm, open_tap(vllm.url, port=0, prompts=None) as tap:
        vllm.ticks = True
        with client.stream("POST", tap.url + CHAT, json={"texts": ["a"], "stream": True}) as answer:
            assert next(answer.iter_raw())
        assert vllm.left.wait(30)
        grown = increase({}, samples(tap, client), "hop2rag_llm_errors_total")
    assert grown == {'hop2rag_llm_errors_total{node="other",reason="cancelled"}': 1}


def test_a_server_that_dies_is_one_line(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Each call gets a 502 in the form of OpenAI's errors, the log has one line, and after a restart all is well."""
    with AnsweringVllm() as vllm, open_tap(vllm.url, port=0, prompts=None) as tap:
        vllm.die()
        with caplog.at_level(logging.WARNING):
            answers = [client.post(tap.url + CHAT, json={"texts": ["a"]}) for _ in range(3)]
        vllm.live()
        after = client.post(tap.url + CHAT, json={"texts": ["a"]})
        grown = increase({}, samples(tap, client), "hop2rag_llm_errors_total")
    assert [answer.status_code for answer in answers] == [502] * 3
    assert "does not answer" in answers[0].json()["error"]["message"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert after.status_code == 200
    assert grown == {'hop2rag_llm_errors_total{node="other",reason="connection"}': 3}


class OldVllm(AnsweringVllm):
    """It speaks HTTP/1.0 once `is_old`."""

    is_old = True

    async def answer(self, path: str, content: bytes, writer: asyncio.StreamWriter) -> None:
        """Answer with another version in the status line."""
        write = writer.write
        if self.is_old:
            writer.write = lambda data: write(data.replace(b"HTTP/1.1", b"HTTP/1.0"))  # type: ignore[method-assign]
        await super().answer(path, content, writer)
        writer.write = write  # type: ignore[method-assign]


def test_http_1_0_is_refused(client: httpx.Client) -> None:
    """Its answers end with the connection, so one that was cut looks complete."""
    with OldVllm() as vllm:
        with pytest.raises(UsageError, match=r"speaks HTTP/1\.0"), open_tap(vllm.url, port=0, prompts=None):
            pass
        vllm.is_old = False
        with open_tap(vllm.url, port=0, prompts=None) as tap:
            vllm.is_old = True
            answer = client.post(tap.url + CHAT, json={"texts": ["a"]})
    assert answer.status_code == 502
    assert "HTTP/1.0" in answer.json()["error"]["message"]


def test_an_upstream_that_is_no_vllm_is_refused(tap: Tap) -> None:
    """Such as another tap, or a port on which nothing listens."""
    with (
        pytest.raises(DependencyDownError, match="shows no vLLM release"),
        open_tap(tap.url, port=0, prompts=None),
    ):
        pass
    with pytest.raises(DependencyDownError, match="unreachable"), open_tap("http://127.0.0.1:9", port=0, prompts=None):
        pass


def test_a_port_that_is_taken_is_named(vllm: AnsweringVllm) -> None:
    """The message says which, and what to change."""
    with pytest.raises(UsageError, match="cannot listen") as error, open_tap(vllm.url, port=vllm.port, prompts=None):
        pass
    assert "--port" in str(error.value)


def test_prompts_are_kept_only_where_a_file_is_named(vllm: AnsweringVllm, tmp_path: Path, client: httpx.Client) -> None:
    """Ids in the order of sending, with what the client told; readable for the owner only."""
    path = tmp_path / "kept" / "prompts.jsonl"
    with open_tap(vllm.url, port=0, prompts=path) as tap:
        client.post(tap.url + CHAT, json={"texts": ["a", "bc"]}, headers={"x-hop2rag-question": "q1"})
        vllm.next_turns.append(Turn(status=400))
        client.post(tap.url + CHAT, json={**REPLY, "stream": True})
        client.post(tap.url + CHAT, json={"texts": ["d"]}, headers={"x-hop2rag-node": "grade"})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line.get("request"), line.get("node")) for line in lines] == [("q1", None), (None, "grade")]
    assert [line["output_token_ids"] for line in lines] == [[1, 2], [1]]
    assert path.stat().st_mode & 0o777 == 0o600
