"""CPU and memory of the process trees of the engine and the agent, and of the whole host."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.host.procfs import Process, pids, read_command_lines, read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from prometheus_client import Metric


SEARCH_SECONDS = 5.0  # walking all processes takes milliseconds on a busy host


@dataclass(frozen=True)
class Target:
    """A process tree, named by its root's id, by the TCP port the root listens on, or by its command line.

    A port is searched in the exporter's own network namespace; a command line also matches processes of other
    containers where they are visible. If several processes match, the root is the one that started first.
    """

    pid: int | None = None
    port: int | None = None
    command: str | None = None

    def root(self) -> Process | None:
        """Return the root, None if it does not exist or is not visible."""
        pid = self.pid if self.pid is not None else self._named(self.command) if self.command else self._listener()
        root = None if pid is None else read_process(pid)
        return None if root is None or root.has_ended else root

    def _named(self, command: str) -> int | None:
        named = [pid for pid, line in read_command_lines() if command in line and pid != os.getpid()]
        found = [(process.started, process.pid) for process in map(read_process, named) if process]
        return min(found)[1] if found else None

    def _listener(self) -> int | None:
        with suppress(psutil.Error):
            for connection in psutil.net_connections(kind="tcp"):
                address = connection.laddr
                if address and connection.status == psutil.CONN_LISTEN and address.port == self.port:
                    return connection.pid
        return None


class Tree:
    """The processes of a target, searched again every few seconds.

    CPU time of a child that has ended is added to its parent's, so the sum over the tree never falls while the root
    lives. A target given by id is the process that has the id now, not a later one.
    """

    def __init__(self, target: Target, clock: Callable[[], float]) -> None:
        self._target = target
        self._clock = clock
        self._only = target.root() if target.pid is not None else None
        self._root: Process | None = None
        self._members: list[Process] = []
        self._searched = float("-inf")

    def look(self) -> int | None:
        """Return the id of the root, None if there is none; search again when that is due."""
        if self._clock() - self._searched > SEARCH_SECONDS or not self._is_whole():
            self._root, self._members, self._searched = self._find_root(), [], self._clock()
        return self._root.pid if self._root else None

    def measure(self, others: Collection[int]) -> tuple[int, float, int]:
        """Return number of processes, CPU seconds and resident bytes, summed over the tree.

        The processes of `others`, by id, and their descendants do not belong to this tree.
        """
        if self._root and not self._members:
            self._members = _descendants(self._root, filter(None, map(read_process, pids())), others)
        return (
            len(self._members),
            sum(process.cpu_seconds for process in self._members),
            sum(process.resident_bytes for process in self._members),
        )

    def _find_root(self) -> Process | None:
        root = self._target.root()
        if self._target.pid is None or (root and self._only and root.identity == self._only.identity):
            return root
        return None

    def _is_whole(self) -> bool:
        """Read the members again; return whether all still exist: one that has ended may have left children."""
        now = [read_process(process.pid) for process in self._members]
        is_whole = all(
            process is not None and process.identity == before.identity
            for process, before in zip(now, self._members, strict=True)
        )
        self._members = [process for process in now if process] if is_whole else []
        return is_whole


def _descendants(root: Process, processes: Iterable[Process], others: Collection[int]) -> list[Process]:
    """Return a process and its descendants, without `others` and theirs."""
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found = [root]
    for process in found:  # grows during the walk: parents before their children
        found += [child for child in children.get(process.pid, ()) if child.pid not in others]
    return found


class ProcessCollector:
    """Process trees by role. A tree that does not exist has `hop2rag_host_processes` 0 and no other series.

    Trees are disjoint: an engine that the agent started is not part of the agent's tree, nor is this exporter.

    Args:
        targets: role, `engine` or `agent` -> its process tree.
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
            "Resident memory summed over the tree; pages that processes share count once per process.",
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


class HostCollector:
    """Reads /proc/stat and /proc/meminfo at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Yield CPU seconds by mode, and memory."""
        cpu = CounterMetricFamily("hop2rag_host_cpu_seconds_total", "CPU time of all cores by mode.", labels=["mode"])
        times = psutil.cpu_times()._asdict()
        for mode, seconds in times.items():
            if not mode.startswith("guest"):  # already included in user and nice
                cpu.add_metric([mode], seconds)
        yield cpu
        memory = psutil.virtual_memory()
        yield GaugeMetricFamily("hop2rag_host_memory_total_bytes", "Memory installed.", memory.total)
        yield GaugeMetricFamily(
            "hop2rag_host_memory_available_bytes", "Memory available without swapping.", memory.available
        )
