"""An engine that asks for a key gets it, no other server does, and a refusal says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from rich.console import Console

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.vllm import StubVllm
from workload.agent.llm import llm_client
from workload.corpus.tokenizer import check_tokenizer
from workload.doctor.servers import examine_vllm
from workload.engine.attach import AttachLauncher
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.key import MAX_KEY_BYTES, KeyAuth, read_key, refuse_secrets
from workload.engine.launcher import RunningEngine
from workload.engine.probe import ask_canary
from workload.engine.profile import PROFILES
from workload.errors import Hop2RagError, UsageError
from workload.harness.sweep import calibrate
from workload.harness.system_under_test import serve_agent
from workload.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from workload.engine.facts import EngineFacts
    from workload.engine.launcher import ProcessLauncher

    Build = Callable[..., ProcessLauncher]

KEY = "sk-planted-4711"


@pytest.fixture
def guarded() -> Iterator[StubVllm]:
    """Return an engine that asks for a key."""
    with StubVllm() as stub:
        stub.key = KEY
        yield stub


def test_a_file_wins_over_vllms_variable_and_that_over_openais(tmp_path: Path) -> None:
    """The key of a paid service in the shell must not replace the one that was meant for this engine."""
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbffrom-file\r\n")
    environ = {"OPENAI_API_KEY": "openai"}
    assert read_key({}) is None
    assert read_key(environ) == "openai"
    assert read_key(environ := environ | {"VLLM_API_KEY": "vllm"}) == "vllm"
    assert read_key(environ | {"HOP2RAG_API_KEY_FILE": str(file)}) == "from-file"
    assert read_key({"OPENAI_API_KEY": "openai"}, variables=("VLLM_API_KEY",)) is None


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"a\nb", b"\xff\xfe", "ключ".encode(), b"x" * 9000])
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, content: bytes) -> None:
    """A key with a line break would end the header; the error must not carry the secret into a log."""
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="HOP2RAG_API_KEY_FILE") as refused:
        read_key({"HOP2RAG_API_KEY_FILE": str(file)})
    assert content.decode(errors="replace").strip() not in str(refused.value) or not content.strip()
    assert len(content) < 100 or str(MAX_KEY_BYTES) in str(refused.value)


def test_a_key_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A run without the key would end in a refusal that names the wrong cause."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_key({"HOP2RAG_API_KEY_FILE": str(path)})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--api-key", "sekret"),
        ("--api-key=sekret",),
        ("--api_key=sekret",),
        ("--seed", "1", "--api-k=sekret"),
        ("--hf-token", "sekret"),
        ("--hf_token=sekret",),
    ],
)
def test_no_secret_is_an_argument_of_an_engine(arguments: tuple[str, ...]) -> None:
    """Every user of the host reads command lines, and a manifest keeps them; vLLM reads its key from a variable."""
    with pytest.raises(UsageError, match="would see") as refused:
        load_settings({"limit": 1, "max_hops": 1, "k": 1, "engine_args": arguments}, {})
    assert "sekret" not in str(refused.value)


def test_other_arguments_of_an_engine_stay() -> None:
    """Flags that begin alike, and values that look like flags."""
    arguments = ("--api-server-count", "2", "--hf-overrides={}", "--", "-O3", "--seed=1")
    assert refuse_secrets(arguments) == arguments


@pytest.mark.parametrize(
    "url", ["http://u:sekret@h:4317", "http://h:4317?key=sekret", "http://169.254.169.254", "http://h:65536", "h:4317"]
)
def test_a_collector_is_named_without_secrets(url: str) -> None:
    """Its URL stands in the manifest and on the engine's command line."""
    with pytest.raises(UsageError, match=r"--otlp-endpoint|Name the server") as refused:
        load_settings({"limit": 1, "max_hops": 1, "k": 1, "otlp_endpoint": url}, {})
    assert "sekret" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "/team-a", "/team%20a"])
def test_row_27_the_key_goes_to_the_api_and_nowhere_else(prefix: str) -> None:
    """/metrics and /version are open, and may be another program's; Prometheus asks them without a key."""
    auth = KeyAuth(f"http://gw{prefix}", KEY)
    reported = {}
    for path in (
        "/v1/models",
        "/v1/completions",
        "/tokenize",
        "/metrics",
        "/version",
        "/v1beta",
        "/sleep",
        "/other/v1/x",
    ):
        request = next(auth.auth_flow(httpx.Request("GET", f"http://gw{prefix}{path}")))
        reported[path] = "authorization" in request.headers
    assert [path for path, is_reported in reported.items() if is_reported] == [
        "/v1/models",
        "/v1/completions",
        "/tokenize",
    ]


def ways(stub: StubVllm, key: str | None) -> dict[str, Callable[[], object]]:
    """Return everything of ours that asks an engine something, by name."""

    def with_client(ask: Callable[[httpx.Client], object]) -> object:
        with open_client(stub.url, key=key) as client:
            return ask(client)

    facts = facts_of(stub)
    return {
        "facts": lambda: with_client(read_facts),
        "canary": lambda: ask_canary(stub.url, "stub", key=key),
        "attach": lambda: AttachLauncher(stub.url, Console(quiet=True), key=key).start(PROFILES["base"]).__enter__(),
        "sweep": lambda: calibrate(RunningEngine(stub.url, facts, None, None, key), "a sample"),
    }


def facts_of(stub: StubVllm) -> EngineFacts:
    """Return the stub's facts, as a holder of the key reads them."""
    with open_client(stub.url, key=stub.key) as client:
        return read_facts(client)


@pytest.mark.parametrize("way", ["facts", "canary", "attach", "sweep"])
def test_row_27_every_way_to_the_engine_brings_the_key(guarded: StubVllm, way: str) -> None:
    """One way without it, and a run against a protected server ends after minutes, or never starts."""
    ways(guarded, KEY)[way]()
    for key in (None, "another"):
        with pytest.raises(UsageError, match="key") as refused:
            ways(guarded, key)[way]()
        assert "401" in str(refused.value)
        assert "HOP2RAG_API_KEY_FILE" in str(refused.value)
        assert KEY not in str(refused.value)
        assert "another" not in str(refused.value)


async def test_the_agent_brings_the_key(guarded: StubVllm) -> None:
    """The calls that are measured are the ones that matter."""
    async with llm_client(guarded.url, 5.0, KEY) as client:
        await client.models.list()
    assert guarded.heard[-1][1]["authorization"] == f"Bearer {KEY}"


def test_the_doctor_names_the_key(guarded: StubVllm) -> None:
    """/metrics is open, so all would look well until the first run."""
    for key, faults in ((None, ["key"]), (KEY, [])):
        with open_client(guarded.url, key=key) as client:
            found = [each.subject for each in examine_vllm(client) if each.level == "fault" and each.subject == "key"]
        assert found == faults


def test_a_tokenizer_behind_a_key_is_named_as_such() -> None:
    """It would read as "does not tokenize as vLLM does", and the user would look for another model."""
    with (
        httpx.Client(base_url="http://x", transport=httpx.MockTransport(lambda _: httpx.Response(401))) as client,
        pytest.raises(UsageError, match="key"),
    ):
        check_tokenizer(None, client, "m", [[{"role": "user", "content": "x"}]])  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/metrics", "/version"])
def test_a_gateway_that_guards_what_prometheus_reads_is_named(path: str) -> None:
    """No key of ours helps there: Prometheus scrapes without one."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403 if request.url.path == path else 200, json={"data": [{"id": "m"}], "version": "1"})

    with open_client("http://gw", transport=httpx.MockTransport(answer), key=KEY) as client:
        if path == "/metrics":
            with pytest.raises(UsageError, match=f"asks for a key on {path}"):
                read_facts(client)
        else:
            with pytest.raises(Hop2RagError):
                read_facts(client)  # the exposition is none


def test_row_27_an_engine_of_ours_is_given_its_key_by_its_environment(launcher: Build) -> None:
    """On a command line everybody on the host would read it, and a manifest would keep it."""
    with launcher(key=KEY).start(PROFILES["base"]) as engine:  # the stub asks for its key
        assert KEY not in " ".join(psutil.Process(engine.pid).cmdline())
        assert KEY not in repr(engine)
        assert engine.key == KEY


def test_a_running_engine_of_ours_is_reused_with_its_key(launcher: Build, port: int) -> None:
    """`hop2rag up` in one shell and a run in another: without the key the second shell must learn why at once."""
    with launcher(key=KEY).start(PROFILES["base"]), launcher(key=KEY).start(PROFILES["base"]) as again:
        assert again.endpoint == f"http://127.0.0.1:{port}"
        with pytest.raises(UsageError, match="asks for a key"):
            launcher().start(PROFILES["base"]).__enter__()


def test_a_whole_subject_works_behind_a_key(guarded: StubVllm) -> None:
    """Agent, gate and sleep have clients of their own; each must bring the key."""
    engine = RunningEngine(guarded.url, facts_of(guarded), None, None, KEY)
    settings = load_settings({"limit": 1, "max_hops": 1, "k": 5}, {})
    with serve_agent(engine, settings, StubStore(), StubEmbedder()) as running:  # type: ignore[arg-type]
        answer = running.run(running.driver.agent.answer({"question": "When?"}, running.meter.question("0", "bridge")))
        assert answer.reason is None
        running.driver.gate._probe()
