"""Process trees are found by pid or port and measured as a whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from exporter.host import processes, procfs
from exporter.host.processes import SEARCH_SECONDS, HostCollector, ProcessCollector, Target
from tests.stubs.proc import values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.exporter.conftest import FakeTime
    from tests.stubs.proc import Proc

CHILD = "import sys; data = bytearray(64 * 1024 * 1024); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a child with 64 MiB, and end it."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_children_count_with_their_parent(child: subprocess.Popen[bytes]) -> None:
    """An engine does its work in child processes: the API server alone would look idle."""
    seen = values(ProcessCollector({"agent": Target(pid=os.getpid())}))
    alone = values(ProcessCollector({"engine": Target(pid=child.pid)}))
    assert seen["hop2rag_host_processes", "agent"] >= 2
    resident = "hop2rag_host_process_resident_memory_bytes"
    assert seen[resident, "agent"] > alone[resident, "engine"] > 64 * 1024**2
    assert seen[CPU, "agent"] > 0


def test_an_engine_below_the_agent_is_not_the_agents(child: subprocess.Popen[bytes]) -> None:
    """`hop2rag run` starts the engine itself: counted with the agent, its memory and its cores would be seen twice."""
    together = values(ProcessCollector({"agent": Target(pid=os.getpid())}))
    roles = {"agent": Target(pid=os.getpid()), "engine": Target(pid=child.pid)}
    apart = values(ProcessCollector(roles))
    assert apart["hop2rag_host_processes", "agent"] == together["hop2rag_host_processes", "agent"] - 1
    assert apart["hop2rag_host_processes", "engine"] == 1
    resident = "hop2rag_host_process_resident_memory_bytes"
    assert apart[resident, "agent"] < together[resident, "agent"] - 64 * 1024**2 / 2


AMBIGUOUS = "hop2rag_host_processes_ambiguous"
COUNT, CPU = "hop2rag_host_processes", "hop2rag_host_process_cpu_seconds_total"
NOTHING = {(COUNT, "engine"): 0, (AMBIGUOUS, "engine"): 0}
TICK = 1 / os.sysconf("SC_CLK_TCK")


def test_cpu_time_of_ended_children_stays(proc: Proc) -> None:
    """A counter that falls when a worker ends would read as a reset, and rate() would invent CPU time."""
    proc.put(7, ticks=100)
    proc.put(8, parent=7, ticks=30)
    collector = ProcessCollector({"engine": Target(pid=7)})
    assert values(collector)[CPU, "engine"] == pytest.approx(130 * TICK)
    proc.put(8, parent=7, ticks=31, state="Z")  # has ended, and is not yet waited for
    assert values(collector)[CPU, "engine"] == pytest.approx(131 * TICK)
    proc.end(8)
    proc.put(7, ticks=100, ended=31)
    assert values(collector)[CPU, "engine"] == pytest.approx(131 * TICK)
    assert values(collector)[COUNT, "engine"] == 1


def test_row_25_a_pid_that_another_process_gets_is_not_the_engines(proc: Proc, fake_time: FakeTime) -> None:
    """Its numbers would be drawn as the engine's, and nothing would say that the engine has ended."""
    proc.put(7, started=100)
    collector = ProcessCollector({"engine": Target(pid=7)}, fake_time.monotonic)
    assert values(collector)[COUNT, "engine"] == 1
    proc.end(7)
    assert values(collector) == NOTHING
    proc.put(7, started=200)
    for _ in range(3):
        assert values(collector) == NOTHING
        fake_time.now += SEARCH_SECONDS + 1
    assert values(ProcessCollector({"engine": Target(pid=7)}))[COUNT, "engine"] == 1  # who names it now means it


@pytest.mark.parametrize("gap", [0, SEARCH_SECONDS + 1])
def test_a_pid_is_no_strangers_even_where_the_change_is_not_seen(proc: Proc, fake_time: FakeTime, gap: float) -> None:
    """The number may be taken between two scrapes, and before the first."""
    proc.put(7, started=100)
    never_asked = ProcessCollector({"engine": Target(pid=7)}, fake_time.monotonic)
    asked = ProcessCollector({"engine": Target(pid=7)}, fake_time.monotonic)
    values(asked)
    proc.put(7, started=200)
    fake_time.now += gap
    for collector in (asked, never_asked):
        assert values(collector) == NOTHING


def test_a_child_whose_pid_another_process_gets_is_left_out(proc: Proc) -> None:
    """Between two searches a worker ends, and its pid goes to another process."""
    proc.put(7)
    proc.put(8, parent=7, started=5)
    collector = ProcessCollector({"engine": Target(pid=7)})
    assert values(collector)[COUNT, "engine"] == 2
    proc.put(8, parent=1, started=6, pages=10**9)
    assert values(collector)[COUNT, "engine"] == 1


def test_an_engine_without_a_waiter_is_not_there(proc: Proc) -> None:
    """A process that has ended keeps its number until its parent asks: 0 bytes of memory would be drawn meanwhile."""
    proc.put(7, state="Z")
    for target in (Target(pid=7), Target(command="engine")):
        assert values(ProcessCollector({"engine": target})) == NOTHING


def test_trees_of_thousands_are_read_once_a_scrape(proc: Proc, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with thousands of processes took seconds a scrape: each was read many times. Its time is a benchmark's."""
    first = 5_000_000  # no process of Linux has such a number; the collector leaves its own out
    proc.put(7)
    for pid in range(first, first + 3000):
        proc.put(pid, parent=pid - 1 if pid % 3 and pid > first else 7, command="x")
    read = Mock(side_effect=procfs.read_process)
    monkeypatch.setattr(procfs, "read_process", read)
    monkeypatch.setattr(processes, "read_process", read)
    collector = ProcessCollector({"engine": Target(command="engine")})
    for _ in range(2):
        read.reset_mock()
        assert values(collector)[COUNT, "engine"] == 3001
        assert read.call_count <= 3001 + 3


def test_what_is_no_process_is_passed_over(proc: Proc, tmp_path: Path) -> None:
    """Files of /proc that are cut short, gone or not ours to read."""
    proc.put(7)
    for pid, stat in ((8, b""), (9, b"9 (x"), (10, b"10 (x) S 7 1"), (11, b"\xff\xfe")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_bytes(stat)
    (tmp_path / "12").mkdir()
    (tmp_path / "self").mkdir()
    assert values(ProcessCollector({"engine": Target(command="engine")}))[COUNT, "engine"] == 1


def test_a_tree_is_found_by_its_port() -> None:
    """A user rarely knows the engine's pid, but always its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(port=listener.getsockname()[1])
        root = target.root()
        assert root
        assert root.pid == os.getpid()


def test_a_tree_that_is_not_there_counts_zero_and_has_no_other_series() -> None:
    """A stopped engine is a fact; its memory being 0 bytes is not."""
    assert values(ProcessCollector({"engine": Target(port=1)})) == NOTHING
    assert values(ProcessCollector({"engine": Target(pid=2**22 + 1)})) == NOTHING


def test_new_children_are_seen_within_seconds(fake_time: FakeTime, wait_until: Callable[..., None]) -> None:
    """The engine starts its workers long after its port is open."""
    collector = ProcessCollector({"agent": Target(pid=os.getpid())}, fake_time.monotonic)
    before = values(collector)["hop2rag_host_processes", "agent"]
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"]) as late:
        assert values(collector)["hop2rag_host_processes", "agent"] == before
        fake_time.now += SEARCH_SECONDS + 0.1
        assert values(collector)["hop2rag_host_processes", "agent"] == before + 1
        late.kill()
        late.wait()
        wait_until(lambda: values(collector)["hop2rag_host_processes", "agent"] == before)


def test_host_totals() -> None:
    """The share of the engine is known only with the totals of the host."""
    first = values(HostCollector())
    assert first["hop2rag_host_memory_total_bytes", ""] > first["hop2rag_host_memory_available_bytes", ""] > 0
    second = values(HostCollector())
    modes = [key for key in first if key[0] == "hop2rag_host_cpu_seconds_total"]
    assert {"user", "system", "idle"} <= {mode for _, mode in modes}
    assert sum(second[key] for key in modes) >= sum(first[key] for key in modes) > 0


@pytest.mark.parametrize(
    ("line", "is_it"),
    [
        ("python -m vllm.entrypoints.openai.api_server --port 1", True),
        ("python -I -m vllm.entrypoints.openai.api_server", True),
        ("exporter --collector.processes.engine-command=vllm.entrypoints.openai.api_server", False),
        ("exporter --collector.processes.engine-command vllm.entrypoints.openai.api_server", False),
        ("vim vllm.entrypoints.openai.api_server.py", False),
    ],
)
def test_a_command_line_is_found_by_whole_words(proc: Proc, line: str, *, is_it: bool) -> None:
    """Seen: another project's exporter was measured, because its own arguments contain the words."""
    proc.put(7, command=line.replace(" ", "\0"))
    command = "vllm.entrypoints.openai.api_server"
    assert values(ProcessCollector({"engine": Target(command=command)}))[COUNT, "engine"] == is_it


@pytest.mark.parametrize(("command", "is_it"), [("vllm serve", True), ("serve model", True), ("vllm model", False)])
def test_several_words_stand_together(proc: Proc, command: str, *, is_it: bool) -> None:
    """The first may be a path."""
    proc.put(7, command="python\0/usr/bin/vllm\0serve\0model")
    assert values(ProcessCollector({"engine": Target(command=command)}))[COUNT, "engine"] == is_it


def test_of_two_trees_with_the_command_line_none_is_measured(
    proc: Proc, fake_time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    """Seen: a stranger's memory was drawn as the engine's, because the stranger had started first."""
    proc.put(7)
    proc.put(8)
    proc.put(9, parent=8)
    collector = ProcessCollector({"engine": Target(command="engine")}, fake_time.monotonic)
    for _ in range(3):
        assert values(collector) == {(AMBIGUOUS, "engine"): 1}
        fake_time.now += SEARCH_SECONDS + 1
    (line,) = [record.getMessage() for record in caplog.records]
    assert "engine" in line
    assert "7, 8" in line
    proc.end(7)
    found = values(collector)
    assert (found[COUNT, "engine"], found[AMBIGUOUS, "engine"]) == (2, 0)  # a fork has its parent's command line
