"""A Prometheus that runs already: asked, lent its targets, and left as it was."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from workload.errors import DependencyDownError
from workload.services.exporter_process import use_exporter
from workload.services.locks import FileLock
from workload.services.process import free_port
from workload.services.prometheus_server import AttachedPrometheus, loopback_session
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from pathlib import Path

LIVE, ARM = ArmLabels("live", "load", "load"), ArmLabels("r", "e", "a")


def test_its_targets_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine must not go unwatched between experiments, whoever wrote its targets."""
    with loopback_session() as session:
        attached = AttachedPrometheus("http://127.0.0.1:1", tmp_path, session)
        monkeypatch.setattr(attached.client, "ready", lambda: True)
        TargetFiles(tmp_path).write(LIVE, vllm=["http://vllm:8000"])
        before = {path.name: path.read_text() for path in tmp_path.glob("*.json")}
        with attached as prometheus:
            prometheus.targets.write(ARM, vllm=["http://vllm:8000"], workload=["run:1"])
            prometheus.targets.clear()
    assert {path.name: path.read_text() for path in tmp_path.glob("*.json")} == before


def test_targets_of_a_killed_run_are_not_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be scraped for ever, and each alert on them would be false."""
    with loopback_session() as session:
        attached = AttachedPrometheus("http://127.0.0.1:1", tmp_path, session)
        monkeypatch.setattr(attached.client, "ready", lambda: True)
        killed = [{"targets": ["run:1"], "labels": ARM.as_dict()}]
        mine = [{"targets": ["vllm:8000"]}]
        (tmp_path / "workload.json").write_text(json.dumps(killed))
        (tmp_path / "vllm.json").write_text(json.dumps([*mine, *killed]))
        with attached as prometheus:
            assert FileLock(tmp_path).owner(), "the targets are claimed"
            prometheus.targets.write(ARM, vllm=["http://vllm:8000"], workload=["run:2"])
    assert json.loads((tmp_path / "workload.json").read_text()) == []
    assert json.loads((tmp_path / "vllm.json").read_text()) == mine


def test_a_prometheus_that_is_away_is_named(tmp_path: Path) -> None:
    """Before a corpus is searched or an engine asked for."""
    with loopback_session() as session, pytest.raises(DependencyDownError, match="is not ready"):
        AttachedPrometheus(f"http://127.0.0.1:{free_port()}", tmp_path, session).__enter__()


def test_the_samples_of_an_exporter_elsewhere_are_taken_over(tmp_path: Path) -> None:
    """The raw log is the record of GPU memory; a run must keep it when the exporter's own has been rotated away."""
    log, run = tmp_path / "raw", tmp_path / "run"
    log.mkdir()
    (log / "nvml_before.csv").write_text("old\n")
    (log / "nvml_other.txt").write_text("no samples\n")
    old = (log / "nvml_before.csv").stat()
    os.utime(log / "nvml_before.csv", (old.st_atime - 60, old.st_mtime - 60))
    with use_exporter("exporter:9400", log, run) as address:
        assert address == "exporter:9400"
        (log / "nvml_now.csv").write_text("new\n")
    assert {path.name for path in (run / "nvml").iterdir()} == {"nvml_now.csv"}
