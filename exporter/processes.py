"""CPU and memory of the process trees of the engine and the agent."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from prometheus_client import Metric

SEARCH_SECONDS = 5.0  # walking all processes costs milliseconds on a busy host


@dataclass(frozen=True)
class Target:
    """A process tree, named by its root's id, by the TCP port the root listens on, or by its command line.

    A port is looked for in the exporter's own network; a command line reaches into other containers, where their
    processes are to be seen. Of several processes that match, the root is the one that started first.
    """

    pid: int | None = None
    port: int | None = None
    command: str | None = None

    def root(self) -> psutil.Process | None:
        """Return the root; None if there is none, or none that we may see."""
        pid = self.pid if self.pid is not None else self._named(self.command) if self.command else self._listener()
        with suppress(psutil.Error):
            return None if pid is None else psutil.Process(pid)
        return None

    def _named(self, command: str) -> int | None:
        found = [
            (process.info["create_time"], process.pid)
            for process in psutil.process_iter(["cmdline", "create_time"])
            if command in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
        ]
        return min(found)[1] if found else None

    def _listener(self) -> int | None:
        for connection in psutil.net_connections(kind="tcp"):
            address = connection.laddr
            if address and connection.status == psutil.CONN_LISTEN and address.port == self.port:
                return connection.pid
        return None


@dataclass
class Tree:
    """The processes of a target, looked up again every few seconds.

    CPU time of a child that has ended lives on in its parent's account, so the sum over the tree never falls while the
    root lives.
    """

    target: Target
    clock: Callable[[], float]
    _root: psutil.Process | None = None
    _processes: list[psutil.Process] = field(default_factory=list)
    _searched: float = float("-inf")

    def look(self) -> int | None:
        """Look the root up again if it is time to, and return its id; None if there is none."""
        if self.clock() - self._searched > SEARCH_SECONDS or not all(p.is_running() for p in self._processes):
            self._root, self._processes, self._searched = self.target.root(), [], self.clock()
        return self._root.pid if self._root else None

    def measure(self, others: Collection[int]) -> tuple[int, float, int]:
        """Return number of processes, CPU seconds and resident bytes, summed over the tree.

        Args:
            others: ids of processes that, with all below them, are not of this tree.
        """
        if self._root and not self._processes:
            self._processes = _descendants(self._root, others)
        count, cpu_seconds, resident_bytes = 0, 0.0, 0
        for process in self._processes:
            with suppress(psutil.Error):
                with process.oneshot():
                    cpu, memory = process.cpu_times(), process.memory_info()
                cpu_seconds += cpu.user + cpu.system + cpu.children_user + cpu.children_system
                resident_bytes += memory.rss
                count += 1
        return count, cpu_seconds, resident_bytes


def _descendants(root: psutil.Process, others: Collection[int]) -> list[psutil.Process]:
    """Return a process and all below it, without `others` and what is below those."""
    found, left_out = [root], set(others)
    with suppress(psutil.Error):
        for process in root.children(recursive=True):  # parents before their children
            if process.pid in left_out or process.ppid() in left_out:
                left_out.add(process.pid)
            else:
                found.append(process)
    return found


class ProcessCollector:
    """Process trees by role. A tree that is not there has `hop2rag_host_processes` 0 and no other series.

    Trees share no process: an engine that the agent has started is not the agent's, nor is this exporter.

    Args:
        targets: role, `engine` or `agent`, -> where it is found.
        clock: seconds, monotonic.
    """

    def __init__(self, targets: Mapping[str, Target], clock: Callable[[], float] = time.monotonic) -> None:
        self._trees = {role: Tree(target, clock) for role, target in targets.items()}

    def collect(self) -> Iterator[Metric]:
        """Yield count, CPU time and resident memory by role."""
        count = GaugeMetricFamily("hop2rag_host_processes", "Processes in the tree.", labels=["role"])
        cpu = CounterMetricFamily(
            "hop2rag_host_process_cpu_seconds_total", "CPU time of the tree, ended children included.", labels=["role"]
        )
        resident = GaugeMetricFamily(
            "hop2rag_host_process_resident_memory_bytes",
            "Resident memory summed over the tree; pages that processes share count once for each.",
            labels=["role"],
        )
        roots = {role: tree.look() for role, tree in self._trees.items()}
        for role, tree in self._trees.items():
            others = {pid for pid in (*roots.values(), os.getpid()) if pid is not None and pid != roots[role]}
            processes, cpu_seconds, resident_bytes = tree.measure(others)
            count.add_metric([role], processes)
            if processes:
                cpu.add_metric([role], cpu_seconds)
                resident.add_metric([role], resident_bytes)
        yield from (family for family in (count, cpu, resident) if family.samples)
