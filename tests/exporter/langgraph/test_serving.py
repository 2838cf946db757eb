"""Serving an app's metrics: it never stops the app, and each process of the app is found by Prometheus."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import CollectorRegistry

from exporter.langgraph import MeteringHandler
from exporter.langgraph.serving import FURTHER_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

FORKED = """
import os, sys, uuid
from exporter.langgraph import MeteringHandler

meter = MeteringHandler().serve(port=int(sys.argv[1]))
def ask():
    run_id = uuid.uuid4()
    meter.on_chain_start({}, {}, run_id=run_id)
    meter.on_chain_end({}, run_id=run_id)
def asked():
    labels = {"outcome": "ok", "termination": "done"}
    return meter.registry.get_sample_value("hop2rag_questions_total", labels)
ask()
if not os.fork():
    before = meter.address
    ask()
    ask()
    print("child", before or "-", meter.address, asked(), flush=True)
    meter.close()
    os._exit(0)
os.wait()
print("parent", meter.address, asked())
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """Return a port on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def entries(targets: Path) -> list[str]:
    """Return the addresses that Prometheus reads."""
    return sorted(address for file in targets.glob("*.json") for address in json.loads(file.read_text())[0]["targets"])


def test_a_port_that_is_taken_becomes_the_next_free_one(
    taken: int, targets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With `uvicorn --workers 2` the second worker must start, and be scraped."""
    meter = MeteringHandler().serve(port=taken)
    try:
        port = int(meter.address.rpartition(":")[2])
        assert taken < port <= taken + FURTHER_PORTS or port > 1024
        assert httpx.get(f"http://{meter.address}/metrics").status_code == 200
        assert entries(targets) == [meter.address]
        assert [record.message for record in caplog.records] == [
            f"Port {taken} is taken: the app's metrics are at http://{meter.address}/metrics."
        ]
    finally:
        meter.close()
    assert entries(targets) == []


def test_a_cell_that_runs_twice_replaces_what_it_served(targets: Path) -> None:
    """A notebook's cell is run again and again; each time its port is the one that the reader has open."""
    first = MeteringHandler().serve()
    port = int(first.address.rpartition(":")[2])
    first.close()
    first, second = (MeteringHandler([name]).serve(port=port) for name in ("before", "after"))
    try:
        assert (first.address, second.address) == ("", f"127.0.0.1:{port}")
        served = httpx.get(f"http://{second.address}/metrics").text
        assert 'node="after"' in served
        assert 'node="before"' not in served
        assert entries(targets) == [second.address]
    finally:
        second.close()


@pytest.mark.parametrize(("host", "port"), [("203.0.113.7", 9465), ("127.0.0.1", -1), ("no.such.host.invalid", 9465)])
def test_an_address_that_cannot_be_used_leaves_the_app_unserved(
    host: str, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The app runs on another machine than the one it was written for: it must start all the same."""
    meter = MeteringHandler().serve(port=port, host=host)
    assert meter.address == ""
    assert [record.message.partition(".")[0] for record in caplog.records] == ["The app's metrics are not served"]


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container without a home serves its metrics like any other."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOP2RAG_TARGETS", str(tmp_path / "file" / "targets"))
    meter = MeteringHandler().serve()
    meter.close()
    assert meter.address == ""
    assert ["file_sd" in record.message for record in caplog.records] == [True]


def test_the_entries_of_processes_that_were_killed_are_removed(targets: Path) -> None:
    """A target that is always down is an alert that nobody can act on."""
    targets.mkdir()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname()
    for name in (f"{host}-{int(gone.stdout)}-1", f"{host}-{os.getppid()}-2", f"{host}-x-3", "elsewhere-1-4"):
        (targets / f"workload-{name}.json").write_text(json.dumps([{"targets": [name.rpartition("-")[2]]}]))
    MeteringHandler().serve().close()
    assert entries(targets) == ["2", "3", "4"]


def test_a_forked_worker_begins_at_zero_and_serves_by_itself(targets: Path) -> None:
    """With `gunicorn --preload` the threads stay with the parent; what it had counted must not be counted twice."""
    free = MeteringHandler().serve()
    port = free.address.rpartition(":")[2]
    free.close()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, port],
        capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": "."},
    )  # fmt: skip
    child, parent = (line.split() for line in done.stdout.splitlines())
    assert (child[:2], child[3]) == (["child", "-"], "2.0")
    assert child[2] not in {"-", f"127.0.0.1:{port}"}
    assert parent == ["parent", f"127.0.0.1:{port}", "1.0"]
    assert entries(targets) == []


def test_a_second_handler_on_a_registry_replaces_the_first() -> None:
    """An app that has a metrics page hands in its registry, in a cell that it runs twice."""
    registry = CollectorRegistry(auto_describe=True)
    for node in ("before", "after"):
        MeteringHandler([node], registry=registry)
    assert registry.get_sample_value("hop2rag_node_active", {"node": "after"}) == 0
    assert registry.get_sample_value("hop2rag_node_active", {"node": "before"}) is None
