"""CPU and memory of the process trees of the engine and the agent, and of the whole host."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.host.network import own_addresses, scraped_addresses
from exporter.host.procfs import Process, pids, read_command_lines, read_process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client import Metric

_LOG = logging.getLogger("exporter.processes")
SEARCH_SECONDS = 5.0  # walking all processes takes milliseconds on a busy host


class AmbiguousError(Exception):
    """Several process trees match, and nothing says which is meant."""


@dataclass(frozen=True)
class Target:
    """A process tree, named by its root's id, by the TCP port the root listens on, or by its command line.

    A port is searched in the exporter's own network namespace. A command line also matches processes of other
    containers where they are visible: whole words of it, which are not an option's value. With `servers`, one of
    Prometheus's target files, only processes in the network of one of its servers match.
    """

    pid: int | None = None
    port: int | None = None
    command: str | None = None
    servers: Path | None = None

    def root(self) -> Process | None:
        """Return the root, None if it does not exist or is not visible.

        Raises:
            AmbiguousError: several trees match.
        """
        if self.pid is None and self.command:
            return self._named(self.command.split())
        pid = self.pid if self.pid is not None else self._listener()
        root = None if pid is None else read_process(pid)
        return None if root is None or root.has_ended else root

    def version(self) -> int | None:
        """Return what changes whenever other servers are scraped."""
        with suppress(OSError):
            return self.servers.stat().st_mtime_ns if self.servers else None
        return None

    def _named(self, command: list[str]) -> Process | None:
        named = {pid for pid, line in read_command_lines() if _starts(line, command)} - {os.getpid()}
        if self.servers and named:
            addresses = scraped_addresses(self.servers)
            named = {pid for pid in named if addresses & own_addresses(pid)}
        found = [process for process in map(read_process, named) if process and not process.has_ended]
        roots = [process for process in found if process.parent not in named]
        if len(roots) > 1:
            raise AmbiguousError(
                f"its command line is that of processes {', '.join(map(str, sorted(root.pid for root in roots)))}"
            )
        return roots[0] if roots else None

    def _listener(self) -> int | None:
        with suppress(psutil.Error):
            for connection in psutil.net_connections(kind="tcp"):
                address = connection.laddr
                if address and connection.status == psutil.CONN_LISTEN and address.port == self.port:
                    return connection.pid
        return None


def _starts(line: list[str], command: list[str]) -> bool:
    """Return whether a command line has these words, the first perhaps after a folder, and not as an option's value."""
    first, length = command[0], len(command)
    return any(
        (word == first or word.endswith(f"/{first}"))
        and line[at : at + length][1:] == command[1:]
        and not (at and line[at - 1].startswith("--"))
        for at, word in enumerate(line)
    )


class Tree:
    """The processes of a target, searched again every few seconds.

    CPU time of a child that has ended is added to its parent's, so the sum over the tree never falls while the root
    lives. A target given by id is the process that has the id now, not a later one.

    Attributes:
        is_ambiguous: whether several trees match, of which none is measured.
    """

    def __init__(self, role: str, target: Target, clock: Callable[[], float]) -> None:
        self.is_ambiguous = False
        self._role, self._target = role, target
        self._clock = clock
        self._only = target.root() if target.pid is not None else None
        self._root: Process | None = None
        self._members: list[Process] = []
        self._searched = float("-inf")
        self._version: int | None = None

    def look(self) -> int | None:
        """Return the id of the root, None if there is none; search again when that is due."""
        version = self._target.version()
        is_due = self._clock() - self._searched > SEARCH_SECONDS or version != self._version
        if is_due or not self._is_whole():
            self._root, self._members, self._searched = self._find_root(), [], self._clock()
            self._version = version
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
        was_ambiguous, self.is_ambiguous = self.is_ambiguous, False
        try:
            root = self._target.root()
        except AmbiguousError as error:
            self.is_ambiguous, root = True, None
            if not was_ambiguous:
                text = "No process of the %s is measured: %s. Name it by its pid or port (--help)."
                _LOG.warning(text, self._role, error)
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

    An ambiguous tree has only `hop2rag_host_processes_ambiguous` 1.

    Trees are disjoint: an engine that the agent started is not part of the agent's tree, nor is this exporter.

    Args:
        targets: role, `engine` or `agent` -> its process tree.
    """

    def __init__(self, targets: Mapping[str, Target], clock: Callable[[], float] = time.monotonic) -> None:
        self._trees = {role: Tree(role, target, clock) for role, target in targets.items()}

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
        ambiguous = GaugeMetricFamily(
            "hop2rag_host_processes_ambiguous",
            "1 if several process trees match the role's command line, so that none is measured.",
            labels=["role"],
        )
        roots = {role: tree.look() for role, tree in self._trees.items()}
        for role, tree in self._trees.items():
            ambiguous.add_metric([role], float(tree.is_ambiguous))
            if tree.is_ambiguous:
                continue
            others = {pid for pid in (*roots.values(), os.getpid()) if pid is not None and pid != roots[role]}
            processes, cpu_seconds, resident_bytes = tree.measure(others)
            count.add_metric([role], processes)
            if processes:
                cpu.add_metric([role], cpu_seconds)
                resident.add_metric([role], resident_bytes)
        yield from (family for family in (count, ambiguous, cpu, resident) if family.samples)


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
