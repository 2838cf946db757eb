"""Of processes with the same command line, those in a scraped server's network are measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from exporter.host.processes import AmbiguousError, ProcessCollector, Target
from tests.stubs.proc import values

if TYPE_CHECKING:
    from pathlib import Path

    from tests.exporter.conftest import FakeTime
    from tests.stubs.proc import Proc

COUNT, AMBIGUOUS = "hop2rag_host_processes", "hop2rag_host_processes_ambiguous"
RESIDENT = "hop2rag_host_process_resident_memory_bytes"
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
OURS, STRANGERS = "172.18.0.5", "172.19.0.5"


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    """Return a target file of Prometheus in a folder of its own."""
    (tmp_path / "targets").mkdir()
    return tmp_path / "targets" / "vllm.json"


def scrape(file: Path, *addresses: str, at: int = 1) -> None:
    """Have Prometheus scrape other servers from an instant on (seconds)."""
    file.write_text(json.dumps([{"targets": list(addresses), "labels": {"run": "r"}}]))
    os.utime(file, (at, at))


def test_a_stranger_in_another_network_is_not_the_engine(proc: Proc, targets: Path) -> None:
    """Seen: with another vLLM on the host, both projects' exporters reported that one's memory."""
    proc.put(6, address=STRANGERS, pages=1000)
    proc.put(7, address=OURS)
    scrape(targets, f"{OURS}:8000")
    found = values(ProcessCollector({"engine": Target(command="engine", servers=targets)}))
    assert found[RESIDENT, "engine"] == PAGE_BYTES
    scrape(targets, "172.20.0.1:8000", "name.invalid:8000")
    found = values(ProcessCollector({"engine": Target(command="engine", servers=targets)}))
    assert found == {(COUNT, "engine"): 0, (AMBIGUOUS, "engine"): 0}


def test_the_agent_is_that_of_the_run_from_its_first_scrape(proc: Proc, targets: Path, fake_time: FakeTime) -> None:
    """Seen: during an experiment the paused load was measured, always, because it had started first."""
    proc.put(6, address=STRANGERS, command="agent", pages=5)
    scrape(targets, f"{STRANGERS}:9500")
    collector = ProcessCollector({"agent": Target(command="agent", servers=targets)}, fake_time.monotonic)
    assert values(collector)[RESIDENT, "agent"] == 5 * PAGE_BYTES
    proc.put(7, address=OURS, command="agent")
    scrape(targets, f"{OURS}:9500", at=2)
    assert values(collector)[RESIDENT, "agent"] == PAGE_BYTES


@pytest.mark.parametrize("text", ["", "[", "{}", "[1]", '[{"targets": [1]}]'])
def test_a_target_file_that_is_no_list_of_servers_names_none(proc: Proc, targets: Path, text: str) -> None:
    """Prometheus says so in its log; the exporter goes on."""
    proc.put(7, address=OURS)
    targets.write_text(text)
    assert values(ProcessCollector({"engine": Target(command="engine", servers=targets)}))[COUNT, "engine"] == 0


NETWORKED = """
import fcntl, socket, struct, sys
if sys.argv[1] != "-":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        address = struct.pack("<16sHH4s8x", b"lo", socket.AF_INET, 0, socket.inet_aton(sys.argv[1]))
        fcntl.ioctl(any_socket, 0x8916, address)  # SIOCSIFADDR
        fcntl.ioctl(any_socket, 0x8914, struct.pack("<16sH14x", b"lo", 1))  # SIOCSIFFLAGS: up
print("ready", flush=True)
sys.stdin.read()
"""


def test_of_real_processes_only_the_scraped_servers_is_measured(tmp_path: Path) -> None:
    """A twin in another network, one on the host, and an exporter that names the words are left alone."""
    engine = tmp_path / "decoyed-engine"
    engine.write_text(NETWORKED)
    own = ["unshare", "--map-root-user", "--net", sys.executable, str(engine)]
    lines = (
        [*own, "10.201.0.5"],
        [*own, "10.202.0.5"],
        [sys.executable, str(engine), "-"],
        [sys.executable, "-c", NETWORKED, "-", "--collector.processes.engine-command=decoyed-engine"],
    )
    scrape(tmp_path / "vllm.json", "10.202.0.5:8000")
    with ExitStack() as stack:
        found = []
        for line in lines:
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            process = stack.enter_context(subprocess.Popen(line, **pipes))  # type: ignore[call-overload]
            stack.callback(process.kill)
            found.append(process)
        if any(process.stdout.readline() != b"ready\n" for process in found):
            pytest.skip("this machine lets users make no network of their own (unshare --map-root-user --net)")
        target = Target(command="decoyed-engine", servers=tmp_path / "vllm.json")
        root = target.root()
        assert root
        assert root.pid == found[1].pid
        with pytest.raises(AmbiguousError):
            Target(command="decoyed-engine").root()
    assert target.root() is None
