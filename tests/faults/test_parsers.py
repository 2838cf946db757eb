"""Every parser on whatever may come: it returns what its type promises, or its own error in one line."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.errors import ExporterError
from exporter.replay import read_traces
from exporter.web_config import WebConfig, read_web_config
from tests.stubs.agent import bench
from tests.workload.test_prometheus_client import client_of
from workload.agent.llm import Llm
from workload.agent.prompts import Clues, Decision, Decomposition
from workload.bundle import Bundle, read_manifest
from workload.corpus.hotpotqa import Question, load
from workload.corpus.manifest import manifest_path
from workload.corpus.manifest import read_manifest as read_corpus_manifest
from workload.doctor.exposition import read_exposition
from workload.engine.endpoint import parse_endpoint
from workload.engine.facts import cache_config, facts_from
from workload.errors import Hop2RagError, UsageError
from workload.experiments import EXPERIMENTS
from workload.journal import TABLES, Journal, read
from workload.kv_cache.prompts_file import read_prompts
from workload.kv_cache.source import Source
from workload.prometheus import PrometheusError
from workload.run import settings_of
from workload.settings import ENVIRONMENT, Settings, load_settings
from workload.soak.alert import Message as Webhook
from workload.soak.checkpoint import FILE, Checkpoint, read_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from workload.agent.metering import QuestionMeter
    from workload.agent.state import Message

# A folder that lasts for all examples of a test is what these tests want.
many = settings(max_examples=500, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
JSON_VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
RAW = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))


def shaped(*names: str, values: st.SearchStrategy[Any] = JSON_VALUES) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects that have some of these keys, and now and then another."""
    keys = st.sampled_from(names) | st.text(max_size=6)
    return st.dictionaries(keys, values, max_size=len(names) + 1)


def as_json(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Return JSON documents, whole or cut short, or any other bytes."""
    whole = values.map(lambda value: json.dumps(value).encode())
    return whole | st.tuples(whole, st.integers(0, 40)).map(lambda pair: pair[0][: pair[1]]) | RAW


def answer(parse: Callable[[], Any], *errors: type[Exception]) -> Any:
    """Return what a parser returns, or None when it refuses in one line."""
    try:
        return parse()
    except errors as error:
        refusal = error
    if isinstance(refusal, Hop2RagError | ExporterError):
        assert str(refusal)
        assert "\n" not in str(refusal)
    return None


@many
@given(
    shaped(*Settings.model_fields, values=SCALARS | st.lists(SCALARS, max_size=3)),
    shaped(*ENVIRONMENT, "HOP2RAG_X", "PATH", values=st.text(max_size=20)),
)
def test_row_20_any_settings_are_frozen_or_refused(flags: dict[str, Any], environ: dict[str, str]) -> None:
    """Flags and environment come from outside; what is accepted is within every range."""
    found = answer(lambda: load_settings(flags, environ), UsageError)
    if found is not None:
        assert Settings.model_validate(found.model_dump()) == found


@many
@given(
    st.text(max_size=60) | st.text(max_size=30).map("http://".__add__) | st.text(max_size=30).map("http://a@".__add__)
)
@example("http://[::ffff:169.254.169.254]:80")
@example("http://user:pa%73sword@host:8000/v1")
def test_row_20_any_endpoint_is_plain_http_or_refused(text: str) -> None:
    """What is accepted is asked by the program; nothing but http, and no credentials."""
    found = answer(lambda: parse_endpoint(text, lambda _: []), UsageError)
    if found is not None:
        assert found.startswith(("http://", "https://"))
        assert "@" not in found


@many
@given(as_json(shaped("tls_server_config", "basic_auth_users")).map(bytes) | st.text(max_size=80).map(str.encode))
@example(b"a: &a [*a]")
@example(b"!!python/object/apply:os.system ['true']")
@example(b"basic_auth_users: {1: 2}")
@example(b"- " * 5000)
def test_row_20_any_web_config_is_strict_or_refused(tmp_path: Path, content: bytes) -> None:
    """A setting that is silently ignored is a hole, and YAML can name code."""
    path = tmp_path / "web.yml"
    path.write_bytes(content)
    found = answer(lambda: read_web_config(path), ExporterError)
    assert found is None or WebConfig.model_validate(yaml.safe_load(content) or {}) == found


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


@pytest.fixture(scope="module")
def journal_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small journal."""
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite"
    with Journal(path, {}) as journal:
        for number in range(5):
            row = {"question": number, "stage": "embed", "hop": 1, "started_at": 1.0, "duration_seconds": 0.5}
            journal.insert("stage", row)
    return path.read_bytes()


@many
@given(st.data())
def test_row_16_any_journal_is_whole_or_refused(tmp_path: Path, journal_bytes: bytes, data: st.DataObject) -> None:
    """Bytes replaced, left out, put in, or all other: the rows that were written, or a refusal."""
    at = data.draw(st.integers(0, len(journal_bytes)))
    until = min(len(journal_bytes), at + data.draw(st.integers(0, 5000)))
    content = journal_bytes[:at] + data.draw(st.binary(max_size=64)) + journal_bytes[until:]
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    rows = answer(lambda: [row for table in TABLES for row in read(path, table)], UsageError)
    assert rows is None or len(rows) == 5


@dataclass(frozen=True)
class Parrot(Llm):
    """Says what it was told to say."""

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
    parsed, kept = asyncio.run(llm.reply(METER.question("0", "bridge"), "decide", 1, [], 8, schema))
    assert kept == text
    assert parsed is None or schema.model_validate(parsed.model_dump()) == parsed


FACTS = st.lists(st.tuples(st.text(max_size=5), st.integers(-2, 3) | st.booleans()), max_size=2)
CONTEXTS = st.lists(st.tuples(st.text(max_size=5), st.lists(st.text(max_size=5), max_size=2)), max_size=2)
QUESTION = st.fixed_dictionaries(
    {name: st.text(min_size=1, max_size=5) for name in ("_id", "question", "answer", "type", "level")}
    | {"supporting_facts": FACTS | JSON_VALUES, "context": CONTEXTS | JSON_VALUES}
)


@many
@given(as_json(st.lists(QUESTION | JSON_VALUES, max_size=3) | JSON_VALUES))
@example(b"[" * 100_000)
@example(b'[{"_id": "\\ud800"}]')
def test_row_20_any_question_file_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """The file is the user's own and may be of another data set; its place and field are named."""
    path = tmp_path / "questions.json"
    path.write_bytes(content)
    found = answer(lambda: load(path), UsageError)
    if found is not None:
        assert all(isinstance(question, Question) and question.supporting_facts for question in found)


LINES = shaped("messages", "prompt", "prompt_token_ids", "output", "output_token_ids", "request", "node", "hop")


@many
@given(st.lists(LINES.map(json.dumps) | st.text(max_size=30), max_size=4).map("\n".join).map(str.encode) | RAW)
@example(b'{"prompt_token_ids": [1, 2, 3], "output_token_ids": [4]}')
@example(b'{"prompt_token_ids": [99999999999]}')
@example(b'{"a":' * 50_000)
def test_row_20_any_prompts_file_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """One line that was dropped in silence would change the bound of all that follow it."""

    def no_tokenizer() -> Any:
        raise UsageError("There is no tokenizer.", "")

    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    found = answer(lambda: read_prompts(path, no_tokenizer, 16), UsageError)
    assert found is None or isinstance(found, Source)


@many
@given(as_json(shaped("run", "experiment", "settings", "status", "measured", values=JSON_VALUES | st.just("latency"))))
@example(b'{"experiment": "latency", "settings": {"limit": 0}}')
@example(b'{"experiment": "latency", "settings": {"limit": 1, "max_hops": 1, "k": 1, "of_another_release": 1}}')
@example(b'{"experiment": "latency", "settings": 5}')
def test_row_16_any_manifest_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """`--resume` and `suite` read what an earlier process, or release, has left."""
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_bytes(content)
    now = Settings(limit=1, max_hops=1, k=1, results=tmp_path)
    manifest = answer(lambda: read_manifest(folder), UsageError)
    assert manifest is None or isinstance(manifest, dict)
    found = answer(lambda: settings_of(EXPERIMENTS["latency"], now, "run"), UsageError)
    assert found is None or isinstance(found, Settings)


@many
@given(as_json(shaped("collection", "model", "dimension", "count", "content_hash", "chromadb_version")))
def test_row_17_any_corpus_manifest_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """It says which model made the vectors; half of it would let another model search them."""
    manifest_path(tmp_path, "passages").write_bytes(content)
    answer(lambda: read_corpus_manifest(tmp_path, "passages"), Hop2RagError)


@many
@given(
    st.lists(st.lists(st.text(max_size=6) | st.sampled_from(["1", "2e9", "nan", "-1"]), max_size=9), max_size=4),
    st.sampled_from(["ts_ms,mem_used_bytes,gpu,power_mw", "ts_ms,gpu", ""]),
)
@example([["nan", "1"]], "ts_ms,mem_used_bytes")
@example([["1", "1"], ["nan", "1"], ["2", "1"]], "ts_ms,mem_used_bytes")
def test_row_02_any_recording_runs_forward_or_is_refused(tmp_path: Path, rows: list[list[str]], head: str) -> None:
    """The replay backend takes a recording from anywhere; a time that is no number would stop its clock."""
    path = tmp_path / "trace.csv"
    text = "\n".join([head, *(",".join(row) for row in rows)])
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    found = answer(lambda: read_traces(path), ExporterError)
    for trace in (found or {}).values():
        times = [frame.ts_ms for frame in trace]
        assert times == sorted(times)
        assert all(abs(time) < float("inf") for time in times)


POINT = st.lists(st.floats() | st.text(max_size=5) | st.none(), max_size=3)
ROWS = st.lists(st.fixed_dictionaries({}, optional={"metric": JSON_VALUES, "value": POINT, "values": st.lists(POINT)}))
DATA = shaped("resultType", "result", values=ROWS | st.sampled_from(["vector", "matrix", "scalar"]) | SCALARS)


@many
@given(shaped("status", "data", "warnings", "error", values=DATA | st.sampled_from(["success", "error"]) | SCALARS))
@example({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": ["x", "y"]}]}})
@example({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": []}]}})
@example({"status": "success", "data": {"resultType": "scalar", "result": None}})
@example({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, None]}]}})
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
    found = answer(lambda: Webhook.model_validate_json(content), ValidationError)
    if found is not None:
        assert found.alerts
        assert len(found.key) == 64


@many
@given(as_json(shaped(*Checkpoint.__dataclass_fields__)))
def test_row_16_any_checkpoint_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """A soak goes on from it; half of one would ask for a night what has been asked."""
    bundle = Bundle(tmp_path, "run")
    (bundle.folder / FILE).write_bytes(content)
    found = answer(lambda: read_checkpoint(bundle), UsageError)
    assert found is None or isinstance(found, Checkpoint)
