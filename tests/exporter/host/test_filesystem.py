"""Free space of the disks that are written to: by a name that hides the path, and by itself when a folder is gone."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event, active_count

import psutil
import pytest

from exporter.collector import Collectors
from exporter.errors import UsageError
from exporter.host.filesystem import FilesystemCollector, parse_volumes


def values(collector: Collectors) -> dict[str, float]:
    """Return every sample by its name and the values of its labels."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_sizes_are_those_of_the_file_system(tmp_path: Path) -> None:
    """Space that only root may use does not count: a run would fail long before it reaches zero."""
    found = values(Collectors({"filesystem": FilesystemCollector({"results": tmp_path})}))
    space = os.statvfs(tmp_path)
    assert found["hop2rag_host_filesystem_size_bytes results"] == space.f_blocks * space.f_frsize
    slack = 0.05 * found["hop2rag_host_filesystem_size_bytes results"]  # others write meanwhile
    assert found["hop2rag_host_filesystem_avail_bytes results"] == pytest.approx(
        space.f_bavail * space.f_frsize, abs=slack
    )
    assert not any(str(tmp_path) in name for name in found)


def test_a_folder_that_is_gone_is_a_failed_collector(tmp_path: Path) -> None:
    """No number is better than the size of the file system that happens to lie underneath."""
    found = values(Collectors({"filesystem": FilesystemCollector({"results": tmp_path / "gone"})}))
    assert found["hop2rag_exporter_collector_success filesystem"] == 0
    assert not any(name.startswith("hop2rag_host_") for name in found)


def test_a_volume_in_trouble_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server of a network file system goes away and never answers; a disk that fills up must be seen."""
    hangs, ask = Event(), psutil.disk_usage

    def usage(path: str) -> object:
        if path == "/mnt/nfs":
            hangs.wait()
        return ask(path)

    monkeypatch.setattr(psutil, "disk_usage", usage)
    volumes = {"dead": Path("/mnt/nfs"), "gone": tmp_path / "gone", "results": tmp_path}
    collectors = Collectors({"filesystem": FilesystemCollector(volumes, seconds=0.2)}, seconds=30)
    before = active_count()
    for _ in range(3):
        found = values(collectors)
        assert found["hop2rag_host_filesystem_size_bytes results"] > 0
        assert found["hop2rag_exporter_collector_success filesystem"] == 0
        assert not any(name.endswith((" dead", " gone")) for name in found)
    assert active_count() <= before + 1  # never two that wait for the same volume
    assert [record.getMessage() for record in caplog.records] == [
        ("Collector filesystem lacks volumes: dead (no answer), gone (No such file or directory), until it recovers.")
    ]
    hangs.set()


def test_volumes_are_named() -> None:
    """The name becomes a label's value, so it comes from a small set."""
    assert parse_volumes(["results=/data", "prometheus=/a=b"]) == {"results": Path("/data"), "prometheus": Path("/a=b")}


@pytest.mark.parametrize("given", [["/data"], ["results="], ["Results=/data"], ["a=/x", "a=/y"], ["=/x"], [""]])
def test_a_volume_that_cannot_be_one_is_refused(given: list[str]) -> None:
    """A path as a label would show every scraper the layout of the host's disks."""
    with pytest.raises(UsageError, match=r"--collector\.filesystem .* is not allowed\. Use NAME=PATH"):
        parse_volumes(given)
