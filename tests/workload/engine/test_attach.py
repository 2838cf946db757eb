"""Attaching to a server of somebody else: an arm is shown by the server, or refused."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tests.stubs.vllm import StubVllm
from workload.engine.attach import AttachLauncher, refusal
from workload.engine.facts import EngineFacts
from workload.engine.profile import PROFILES, SERVER_MODULE
from workload.errors import DependencyDownError, UsageError
from workload.services.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from workload.engine.launcher import ProcessLauncher

    Build = Callable[..., ProcessLauncher]

FACTS = EngineFacts(
    version="0.32.0",
    model="m",
    model_path="/m",
    max_model_len=8192,
    block_size=32,
    num_gpu_blocks=1456,
    prefix_caching=True,
    kv_pool_bytes=1 << 30,
    kv_block_bytes=None,
)


def test_a_shown_arm_is_attached_and_left_running(launcher: Build, console: Console, port: int) -> None:
    """The server is somebody else's: it must be there before and after."""
    with launcher().start(PROFILES["prefix-off"]) as started:
        for name in ("prefix-off", "base"):
            with AttachLauncher(f"http://127.0.0.1:{port}/v1", console).start(PROFILES[name]) as engine:
                assert engine.facts == started.facts
                assert engine.pid == started.pid


def test_another_arm_is_refused_with_what_was_found(launcher: Build, console: Console, port: int) -> None:
    """Found, expected, and the command for the right server: all that is needed to mend it."""
    with (
        launcher().start(PROFILES["prefix-off"]),
        pytest.raises(UsageError) as refused,
    ):
        AttachLauncher(f"http://127.0.0.1:{port}", console).start(PROFILES["prefix-on"]).__enter__()
    message = str(refused.value)
    assert "enable_prefix_caching=False" in message
    assert "needs True (vLLM 0.32.0)" in message
    assert "-m vllm.entrypoints.openai.api_server" in message
    assert "--enable-prefix-caching" in message


def test_a_hanging_server_is_not_attached(
    launcher: Build, console: Console, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still answers /version and /metrics, so only the canary shows that questions would wait for ever."""
    monkeypatch.setenv("VLLM_STUB", "hang-later")
    attach = AttachLauncher(f"http://127.0.0.1:{port}", console, canary_timeout_seconds=0.3)
    with (
        launcher().start(PROFILES["base"]),
        pytest.raises(DependencyDownError, match=r"canary completion within 0\.3 s"),
    ):
        attach.start(PROFILES["base"]).__enter__()


def test_nothing_there_is_one_line(console: Console, port: int) -> None:
    """An unreachable endpoint is a dependency that is down, not a usage error."""
    with pytest.raises(DependencyDownError, match=f"http://127.0.0.1:{port}.*ConnectError"):
        AttachLauncher(f"http://127.0.0.1:{port}", console).start(PROFILES["base"]).__enter__()


def test_a_bad_endpoint_is_refused_at_once(console: Console) -> None:
    """Before any corpus is built or any question drawn."""
    with pytest.raises(UsageError, match="link-local"):
        AttachLauncher("http://169.254.169.254", console)


class Operator:
    """Somebody who does what is asked for: time passes, and after a while the right engine is there."""

    def __init__(self, stub: StubVllm, *actions: Callable[[StubVllm], object]) -> None:
        self.stub, self.actions, self.now = stub, list(actions), 0.0

    def sleep(self, seconds: float) -> None:
        """Let time pass; one action a time."""
        self.now += seconds
        if self.actions:
            self.actions.pop(0)(self.stub)


def without_caching(stub: StubVllm) -> None:
    """Come up again, caching off."""
    stub.caching = False
    stub.live()


def waiting(stub: StubVllm, console: Console, operator: Operator) -> AttachLauncher:
    """Return a launcher that waits for a minute of the operator's time."""
    return AttachLauncher(
        stub.url,
        console,
        patience_seconds=60,
        command="VLLM_PROFILE={profile} docker compose up -d vllm",
        clock=lambda: operator.now,
        sleep=operator.sleep,
    )


def test_an_arm_is_waited_for_while_somebody_starts_it() -> None:
    """In compose only the user can restart the engine; it is away for a while, and then it must prove itself."""
    said = io.StringIO()
    with StubVllm() as stub:
        operator = Operator(stub, lambda _: None, StubVllm.die, lambda _: None, without_caching)
        with waiting(stub, Console(file=said, width=400), operator).start(PROFILES["prefix-off"]) as engine:
            assert engine.facts.prefix_caching is False
        assert operator.actions == []
    assert said.getvalue().count("VLLM_PROFILE=prefix-off docker compose up -d vllm") == 1, "asked for once"
    assert "enable_prefix_caching=True" in said.getvalue()


def test_an_engine_that_stays_away_is_named_once() -> None:
    """Seen: a typo in the profile kept the engine from starting, and the run that waited said nothing for an hour."""
    said = io.StringIO()
    with StubVllm() as stub:
        ages = [lambda _: None] * 40
        operator = Operator(stub, StubVllm.die, *ages, without_caching)
        launcher = waiting(stub, Console(file=said, width=400), operator)
        launcher.patience_seconds = 600
        with launcher.start(PROFILES["prefix-off"]):
            pass
    (line,) = [line for line in said.getvalue().splitlines() if "silent" in line]
    assert line.startswith(f"{stub.url} has been silent for 60 s")


def test_patience_ends(console: Console) -> None:
    """The engine may never come; the refusal is then the one of a launcher that does not wait."""
    with StubVllm() as stub:
        operator = Operator(stub)
        with pytest.raises(UsageError, match=r"does not match the arm.*VLLM_PROFILE=prefix-off docker"):
            waiting(stub, console, operator).start(PROFILES["prefix-off"]).__enter__()
    assert 60 <= operator.now < 65


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (None, "command line does not show --max-num-seqs 16"),
        ((), "command line does not show --max-num-seqs 16"),
        (("python", "-m", SERVER_MODULE, "--max-num-seqs", "64"), "command line does not show --max-num-seqs 16"),
        (("python", "-m", SERVER_MODULE, "--max-num-seqs", "16"), None),
    ],
)
def test_batching_flags_need_the_command_line(argv: tuple[str, ...] | None, says: str | None) -> None:
    """`--max-num-seqs` is on no endpoint: without its command line a server cannot prove a concurrency arm."""
    reason = refusal(PROFILES["seqs-16"], FACTS, None if argv is None else Listener(1, argv))
    assert reason is None if says is None else says in str(reason)


def test_an_arm_is_proved_on_each_server_behind_a_router(console: Console) -> None:
    """Calls may reach any of them; the router's own pages are those of some server and are not asked."""
    with StubVllm() as first, StubVllm() as second:
        servers = (first.url, second.url)
        attach = AttachLauncher("http://127.0.0.1:1", console, replicas=lambda: servers)
        with attach.start(PROFILES["prefix-on"]) as engine:
            assert (engine.endpoint, engine.servers, engine.pid) == ("http://127.0.0.1:1", servers, None)
        second.caching = False
        with pytest.raises(UsageError, match=f"{second.url} does not match the arm"):
            attach.start(PROFILES["prefix-on"]).__enter__()


def test_engines_of_a_fleet_that_differ_are_said() -> None:
    """A mean over different block sizes or releases would hide it."""
    output = io.StringIO()
    with StubVllm(16) as first, StubVllm(32) as second:
        servers = (first.url, second.url)
        attach = AttachLauncher("http://127.0.0.1:1", Console(file=output, width=1000), replicas=lambda: servers)
        with attach.start(PROFILES["base"]):
            pass
        line = f"The engines differ in block_size (16 on {first.url}, 32 on {second.url})"
    assert line in output.getvalue()
