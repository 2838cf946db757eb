"""A server's place: kept by one process, waited for while it starts, and not left behind by a kill."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from workload.services.locks import InUseError, Requester, port_lock
from workload.services.process import left_of
from workload.services.server_port import ORPHAN_SECONDS, POLL_SECONDS, ServerPort

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Time that passes when somebody sleeps; `then` is called at each sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then = list[object]()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        if self.then:
            step = self.then.pop(0)
            assert callable(step)
            step()


def server_port(folder: Path, clock: Clock, by: Requester | None = None) -> ServerPort:
    """Return a place of Prometheus at port 9090."""
    by = by or Requester("hop2rag run", say=lambda _: None)
    return ServerPort(folder, "Prometheus", 9090, by, clock=lambda: clock.now, sleep=clock.sleep)


def test_a_server_that_starts_is_waited_for(tmp_path: Path) -> None:
    """It is neither there to be used nor absent: a second one would fight for its port and its data."""
    clock, said = Clock(), list[str]()
    with port_lock(tmp_path, "Prometheus", 9090).acquire_now(Requester("hop2rag up")) as record:
        clock.then = [lambda: None, lambda: record.note(child=None, is_ready=True)]
        waiting = server_port(tmp_path, clock, Requester("hop2rag run", say=said.append))
        assert waiting.take(60) is False
        assert waiting.owner is not None
        assert waiting.owner.command == "hop2rag up"
    assert [line.partition(" (")[0] for line in said] == ["Waiting for hop2rag up"]
    assert waiting.take(60) is True


def test_one_that_never_gets_ready_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """A start that hangs must not hang the next one silently."""
    clock = Clock()
    with (
        port_lock(tmp_path, "Prometheus", 9090).acquire_now(Requester("hop2rag up")),
        pytest.raises(InUseError, match=r"Prometheus on port 9090 is in use by hop2rag up \(process"),
    ):
        server_port(tmp_path, clock).take(60)
    assert clock.now == pytest.approx(60, abs=1)


@pytest.mark.parametrize("how", ["ends", "stays", "gone", "another"])
def test_what_a_killed_keeper_left_is_stopped(tmp_path: Path, how: str) -> None:
    """Its record is still there. Only the very process that it names counts, and it is given time to end by itself."""
    clock = Clock()
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as left:
        created = psutil.Process(left.pid).create_time()
        if how == "another":
            created -= 100.0  # the number was given to another process since
        owner = {"command": "hop2rag up", "pid": 1, "since": 0, "child": [left.pid, created], "is_ready": True}
        (tmp_path / "claims").mkdir()
        (tmp_path / "claims" / "port-9090").write_text(json.dumps(owner))

        def end() -> None:
            left.kill()
            left.wait()

        if how == "gone":
            end()
        clock.then = [lambda: None, end] if how == "ends" else []
        assert server_port(tmp_path, clock).take(60) is True
        waited = {"ends": 2 * POLL_SECONDS, "stays": ORPHAN_SECONDS, "gone": 0.0, "another": 0.0}
        assert clock.now == pytest.approx(waited[how], abs=POLL_SECONDS)
        assert left.poll() is None if how == "another" else left.wait(60) is not None
        left.kill()


def test_the_group_of_a_dead_leader_is_stopped_with_it(tmp_path: Path) -> None:
    """An engine's core outlives its server and keeps the memory of a GPU."""
    script = "sleep 60 & echo $!; read _"
    with subprocess.Popen(
        ["sh", "-c", script], start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as leader:
        assert leader.stdout is not None
        core = psutil.Process(int(leader.stdout.readline()))
        child = leader.pid, psutil.Process(leader.pid).create_time()
        leader.kill()
        leader.wait()
        assert [process.pid for process in left_of(child)] == [core.pid]
        owner = {"command": "hop2rag up", "pid": 1, "since": 0, "child": child}
        (tmp_path / "claims").mkdir()
        (tmp_path / "claims" / "port-9090").write_text(json.dumps(owner))
        assert server_port(tmp_path, Clock()).take(60) is True
        assert left_of(child) == []
