"""The flags with which an engine of ours publishes its KV cache events."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from workload.engine.attach import LOOPBACK
from workload.engine.kv_events import (
    FLAG,
    MOST_PATH_BYTES,
    compared_flags,
    events_config,
    events_flags,
    has_events,
    has_sessions,
    socket_folder,
)
from workload.engine.profile import SERVER_MODULE
from workload.fleet.event_source import EventSource, source_of
from workload.fleet.events import EngineId

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def own_cache() -> Iterator[Path]:
    """Return a folder whose path is short, as a cache's is; that of `tmp_path` may be too long for a socket."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize(("port", "events", "replay"), [(8000, 18_000, 28_000), (50_000, 40_000, 30_000)])
def test_an_engine_publishes_on_the_loopback_only(port: int, events: int, replay: int) -> None:
    """An engine binds an address with `::` and connects to any other; `*` would show every prompt to the network."""
    flag, config = events_flags("0.32.0", port)
    assert flag == FLAG
    assert json.loads(config)["endpoint"] == f"tcp://[::ffff:127.0.0.1]:{events}"
    engine = EngineId(f"http://127.0.0.1:{port}")
    argv = ("python", "-m", SERVER_MODULE, "--port", str(port), flag, config)
    assert "127.0.0.1" in LOOPBACK
    assert source_of(engine, events_config(argv)) == EventSource(
        engine, f"tcp://127.0.0.1:{events}", f"tcp://127.0.0.1:{replay}"
    )


def test_an_engine_publishes_to_its_own_user(tmp_path: Path, own_cache: Path) -> None:
    """On a shared host others must not read the prompts; another host cannot reach the socket."""
    folder = socket_folder(own_cache)
    assert folder is not None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    argv = ("python", "-m", SERVER_MODULE, *events_flags("0.32.0", 8000, folder))
    engine = EngineId("http://127.0.0.1:8000")
    source = EventSource(engine, f"ipc://{folder}/8000.new", f"ipc://{folder}/8000.old")
    assert source_of(engine, events_config(argv), may_be_socket=True) == source
    assert source_of(EngineId("http://10.0.0.1:8000"), events_config(argv), may_be_socket=True) is None
    assert socket_folder(tmp_path / ("x" * MOST_PATH_BYTES)) is None


@pytest.mark.parametrize("version", ["0.23.9", "0.22.1", "0.8.5"])
def test_a_release_before_maps_publishes_nothing(version: str) -> None:
    """Up to 0.23 events are arrays, which no engine of ours was seen to publish."""
    assert events_flags(version, 8000) == ()
    assert not has_events(version)


@pytest.mark.parametrize("version", ["0.24.0", "0.26.0", "0.29.1"])
def test_a_release_without_sessions_publishes_all_the_same(version: str) -> None:
    """Token ids connect an event to its call where no session does."""
    assert events_flags(version, 8000) == events_flags("0.32.0", 8000)
    assert has_events(version)
    assert not has_sessions(version)


@pytest.mark.parametrize("version", [None, "dev", ""])
def test_an_unknown_release_has_neither_events_nor_sessions(version: str | None) -> None:
    """A request field that a server does not know may be refused."""
    assert not has_sessions(version)
    assert not has_events(version)


@pytest.mark.parametrize(
    "argv",
    [None, (), ("python", "-m", SERVER_MODULE), ("python", "-m", SERVER_MODULE, FLAG, "{"), ("nginx", FLAG, "{}")],
)
def test_what_a_command_line_does_not_show_is_off(argv: tuple[str, ...] | None) -> None:
    """The command line of a server on another host is not visible."""
    assert events_config(argv) == {}


def test_an_engine_without_events_runs_the_same_arm() -> None:
    """One that an earlier release of ours started, or that requires a key, is reused; its tokens' fates are unknown."""
    argv = ("python", "-m", SERVER_MODULE, "--port", "8000", "--enable-prefix-caching")
    assert compared_flags((*argv, *events_flags("0.32.0", 8000))) == compared_flags(argv)
    assert compared_flags(argv) != compared_flags(argv[:-1])
    assert compared_flags(("nginx",)) is None
