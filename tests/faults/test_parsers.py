"""Every parser of files on whatever may come: what its type promises, or its own error in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.errors import ActionableError
from exporter.gpu.replay import read_traces
from exporter.web.config import WebConfig, read_web_config
from tests.stubs.inputs import JSON_VALUES, RAW, SCALARS, answer, as_json, many, shaped
from workload.corpus.hotpotqa import Question
from workload.corpus.layouts import load
from workload.corpus.manifest import manifest_path
from workload.corpus.manifest import read_manifest as read_corpus_manifest
from workload.engine.endpoint import parse_endpoint
from workload.errors import Hop2RagError, UsageError
from workload.harness.resume import resume_settings
from workload.kv_cache.prompts_file import read_prompts
from workload.kv_cache.source import CallSource
from workload.record.bundle import Bundle, read_manifest
from workload.record.journal import Journal, read
from workload.record.schema import TABLES
from workload.settings import ENVIRONMENT, PART_OF, Settings, load_settings
from workload.soak.checkpoint import FILE, Checkpoint, read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@many
@given(
    shaped(*PART_OF, values=SCALARS | st.lists(SCALARS, max_size=3)),
    shaped(*ENVIRONMENT, "HOP2RAG_X", "PATH", values=st.text(max_size=20)),
)
@example({"app_option": False}, {})
@example({"app_option": [0]}, {})
def test_row_20_any_settings_are_frozen_or_refused(flags: dict[str, Any], environ: dict[str, str]) -> None:
    """Flags and environment come from outside; what is accepted is within every range."""
    found = answer(lambda: load_settings(flags, environ), UsageError)
    if found is not None:
        assert Settings.of(found.flat()) == found


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
    found = answer(lambda: read_web_config(path), ActionableError)
    assert found is None or WebConfig.model_validate(yaml.safe_load(content) or {}) == found


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
@given(st.integers(0, 2**20), st.integers(0, 5000), st.binary(max_size=64))
@example(101, 31, b"")  # its tables seem never to have been made
def test_row_16_any_journal_is_whole_or_refused(
    tmp_path: Path, journal_bytes: bytes, place: int, left_out: int, put_in: bytes
) -> None:
    """Bytes replaced, left out, put in, or all other: the rows that were written, or a refusal."""
    at = place % (len(journal_bytes) + 1)
    content = journal_bytes[:at] + put_in + journal_bytes[at + left_out :]
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    rows = answer(lambda: [row for table in TABLES for row in read(path, table)], UsageError)
    assert rows is None or len(rows) == 5


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
@example(b'[{"_id": "0", "question": "0", "answer": "0", "supporting_facts": null, "context": [["", []]]}]')
def test_row_20_any_question_file_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """The file is the user's own and may be of another data set; its place and field are named."""
    path = tmp_path / "questions.json"
    path.write_bytes(content)
    found = answer(lambda: load(path), UsageError)
    if found is not None:
        assert all(isinstance(question, Question) for question in found)
        assert all(sentence >= 0 for question in found for _, sentence in question.supporting_facts)


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
    assert found is None or isinstance(found, CallSource)


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
    now = Settings.of({"limit": 1, "max_hops": 1, "k": 1, "results": tmp_path})
    manifest = answer(lambda: read_manifest(folder), UsageError)
    assert manifest is None or isinstance(manifest, dict)
    found = answer(lambda: resume_settings("latency", now, "run"), UsageError)
    assert found is None or isinstance(found[0], Settings)


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
    found = answer(lambda: read_traces(path), ActionableError)
    for trace in (found or {}).values():
        times = [frame.ts_ms for frame in trace]
        assert times == sorted(times)
        assert all(abs(time) < float("inf") for time in times)


@many
@given(as_json(shaped(*Checkpoint.__dataclass_fields__)))
def test_row_16_any_checkpoint_is_whole_or_refused(tmp_path: Path, content: bytes) -> None:
    """A soak goes on from it; half of one would ask for a night what has been asked."""
    bundle = Bundle(tmp_path, "run")
    (bundle.folder / FILE).write_bytes(content)
    found = answer(lambda: read_checkpoint(bundle), UsageError)
    assert found is None or isinstance(found, Checkpoint)
