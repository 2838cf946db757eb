"""Stopping a child: nothing that it started lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.stubs.waiting import until
from workload.services.process import ChildProcess, group_of

if TYPE_CHECKING:
    from pathlib import Path

STARTS_ONE_MORE = "trap 'sleep 600 & exit' TERM; echo ready; while :; do sleep 0.05; done"


def test_what_a_child_starts_while_it_is_stopped_ends_too(tmp_path: Path) -> None:
    """An engine that was stopped in its start left a worker, which kept the port."""
    child = ChildProcess(("sh", "-c", STARTS_ONE_MORE), tmp_path / "log", {"PATH": "/usr/bin:/bin"})
    until(lambda: "ready" in child.log.read_text())
    child.stop()
    assert group_of(child.pid) == []
