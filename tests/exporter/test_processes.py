"""Process trees are found by pid or port and measured as a whole."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from exporter.host import HostCollector
from exporter.processes import SEARCH_SECONDS, ProcessCollector, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.exporter.conftest import FakeTime

CHILD = "import sys; data = bytearray(64 * 1024 * 1024); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Start a child with 64 MiB, and end it."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def values(collector: ProcessCollector | HostCollector) -> dict[tuple[str, str], float]:
    """Return (metric, label value) -> value."""
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_children_count_with_their_parent(child: subprocess.Popen[bytes]) -> None:
    """An engine does its work in child processes: the API server alone would look idle."""
    seen = values(ProcessCollector({"agent": Target(pid=os.getpid())}))
    alone = values(ProcessCollector({"engine": Target(pid=child.pid)}))
    assert seen["hop2rag_host_processes", "agent"] >= 2
    resident = "hop2rag_host_process_resident_memory_bytes"
    assert seen[resident, "agent"] > alone[resident, "engine"] > 64 * 1024**2
    assert seen["hop2rag_host_process_cpu_seconds_total", "agent"] > 0


def test_an_engine_below_the_agent_is_not_the_agents(child: subprocess.Popen[bytes]) -> None:
    """`hop2rag run` starts the engine itself: counted with the agent, its memory and its cores would be seen twice."""
    together = values(ProcessCollector({"agent": Target(pid=os.getpid())}))
    roles = {"agent": Target(pid=os.getpid()), "engine": Target(pid=child.pid)}
    apart = values(ProcessCollector(roles))
    assert apart["hop2rag_host_processes", "agent"] == together["hop2rag_host_processes", "agent"] - 1
    assert apart["hop2rag_host_processes", "engine"] == 1
    resident = "hop2rag_host_process_resident_memory_bytes"
    assert apart[resident, "agent"] < together[resident, "agent"] - 64 * 1024**2 / 2


def test_cpu_time_of_ended_children_stays() -> None:
    """A counter that falls when a worker ends would read as a reset, and rate() would invent CPU time."""
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    collector = ProcessCollector({"agent": Target(pid=os.getpid())})
    before = values(collector)["hop2rag_host_process_cpu_seconds_total", "agent"]
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert values(collector)["hop2rag_host_process_cpu_seconds_total", "agent"] >= before + 0.3


def test_a_tree_is_found_by_its_port() -> None:
    """Nobody knows the engine's pid; everybody knows its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target(port=listener.getsockname()[1])
        root = target.root()
        assert root
        assert root.pid == os.getpid()


def test_a_tree_that_is_not_there_counts_zero_and_has_no_other_series() -> None:
    """A stopped engine is a fact; its memory being 0 bytes is not."""
    assert values(ProcessCollector({"engine": Target(port=1)})) == {("hop2rag_host_processes", "engine"): 0}
    assert values(ProcessCollector({"engine": Target(pid=2**22 + 1)})) == {("hop2rag_host_processes", "engine"): 0}


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
    """What the engine takes only means something beside what there is."""
    first = values(HostCollector())
    assert first["hop2rag_host_memory_total_bytes", ""] > first["hop2rag_host_memory_available_bytes", ""] > 0
    time.sleep(0.05)
    second = values(HostCollector())
    modes = [key for key in first if key[0] == "hop2rag_host_cpu_seconds_total"]
    assert {"user", "system", "idle"} <= {mode for _, mode in modes}
    assert sum(second[key] for key in modes) > sum(first[key] for key in modes)


def test_a_command_line_finds_the_process_that_was_first(child: subprocess.Popen[bytes]) -> None:
    """In compose the engine is in another container: its port is not ours to see, its process is."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as later:
        target = Target(command="bytearray(64 * 1024 * 1024)")
        root = target.root()
        assert root
        assert root.pid == child.pid
        later.kill()
    assert values(ProcessCollector({"engine": target}))["hop2rag_host_process_resident_memory_bytes", "engine"] > 64e6
    assert Target(command="no such command line").root() is None
