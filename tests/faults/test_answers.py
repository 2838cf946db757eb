"""Every parser of what servers and models say: what its type promises, or its own error in one line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.stubs.agent import bench
from tests.stubs.inputs import JSON_VALUES, SCALARS, answer, as_json, many, shaped
from tests.workload.services.test_prometheus_client import client_of
from workload.agent.llm import Llm
from workload.agent.prompts import Clues, Decision, Decomposition
from workload.doctor.exposition import read_exposition
from workload.engine.facts import cache_config, facts_from
from workload.services.alert import Notification
from workload.services.prometheus import PrometheusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from workload.agent.metering import QuestionMeter
    from workload.engine.message import Message

EXPOSITIONS = st.lists(
    st.sampled_from(["# TYPE vllm:x counter", "vllm:x_total 1", 'vllm:x_total{a="', "# HELP", 'up{job="a"} NaN'])
    | st.sampled_from(['vllm:cache_config_info{block_size="16",num_gpu_blocks="-1"} 1', "# EOF", "# TYPE", "\\"])
    | st.text(max_size=30),
    max_size=8,
).map("\n".join)


@many
@given(EXPOSITIONS | st.text(max_size=200))
def test_row_10_any_metrics_text_is_read_or_refused(text: str) -> None:
    """A server's /metrics may be cut, or be a web page; a number that cannot be read is no number, and never 0."""
    answer(lambda: read_exposition(text), ValueError)
    labels = answer(lambda: cache_config(text), ValueError)
    if labels is not None:
        facts = facts_from("0.32.0", {"id": "m"}, labels)
        assert all(
            count is None or count > 0 for count in (facts.block_size, facts.num_gpu_blocks, facts.kv_pool_bytes)
        )


@dataclass(frozen=True)
class Parrot(Llm):
    """Replies with the given texts."""

    says: str = ""

    async def complete(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,
        schema: type[BaseModel] | None = None,
    ) -> str:
        """Return the text."""
        del question, node, hop, messages, max_tokens, schema
        return self.says


METER = bench().meter
REPLIES = shaped("query", "clues", "missing", "enough", values=SCALARS | st.lists(SCALARS, max_size=4))


@many
@given(
    st.sampled_from([Clues, Decision, Decomposition]),
    st.text(max_size=80) | REPLIES.map(json.dumps) | st.integers(1, 5000).map(lambda depth: '{"clues":[' * depth),
)
def test_row_18_any_reply_is_of_its_schema_or_given_up(schema: type[BaseModel], text: str) -> None:
    """What a model says is the least trusted input of all; a reply is of its schema, or None after one repair."""
    llm = Parrot(None, "stub", says=text)  # type: ignore[arg-type]
    parsed, kept = asyncio.run(llm.reply(METER.question("0", "bridge"), "decide", 1, [], 8, schema=schema))
    assert kept == text
    assert parsed is None or schema.model_validate(parsed.model_dump()) == parsed


POINT = st.lists(st.floats() | st.text(max_size=5) | st.none(), max_size=3)
ROWS = st.lists(st.fixed_dictionaries({}, optional={"metric": JSON_VALUES, "value": POINT, "values": st.lists(POINT)}))
DATA = shaped("resultType", "result", values=ROWS | st.sampled_from(["vector", "matrix", "scalar"]) | SCALARS)


@many
@given(shaped("status", "data", "warnings", "error", values=DATA | st.sampled_from(["success", "error"]) | SCALARS))
@example({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": ["x", "y"]}]}})
@example({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": []}]}})
@example({"status": "success", "data": {"resultType": "scalar", "result": None}})
@example({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, None]}]}})
@example({"status": "error", "error": "one\nof two lines"})
@example({"status": "success", "warnings": 5, "data": {"resultType": "vector", "result": []}})
def test_row_13_any_answer_of_prometheus_is_used_or_refused(body: dict[str, Any]) -> None:
    """Between us and Prometheus may stand a proxy, or another product that speaks half of its API."""
    client, _ = client_of(lambda *_: (200, body))
    for ask in (
        lambda: client.query("x", 5.0),
        lambda: client.query_range("x", 0, 10, 1),
        lambda: client.raw("x", 0, 10),
        lambda: client.counter_deltas("x", 0, 10),
    ):
        answer(ask, PrometheusError)


ALERTS = shaped("status", "labels", "startsAt", "fingerprint", values=SCALARS | st.sampled_from(["firing", "resolved"]))
DATED = ALERTS.map(lambda found: {"status": "firing", "labels": {}, "startsAt": "2025-01-31T12:00:00Z", **found})
MESSAGES = shaped("version", "groupKey", "truncatedAlerts", "alerts", values=st.lists(DATED, max_size=2) | SCALARS)


@many
@given(as_json(MESSAGES.map(lambda found: {"version": "4", "groupKey": "g", **found})))
@example(b'{"version": "4", "groupKey": "g", "alerts": [' + b"[" * 50_000)
def test_row_11_any_webhook_message_is_of_the_schema_or_refused(content: bytes) -> None:
    """Whoever has the token may send anything; what is taken has an alert, and a key of its own."""
    found = answer(lambda: Notification.model_validate_json(content), ValidationError)
    if found is not None:
        assert found.alerts
        assert len(found.key) == 64
