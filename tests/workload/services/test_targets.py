"""The file_sd files: well-formed for Prometheus at every moment, with checked names and addresses only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workload.errors import StorageError, UsageError
from workload.paths import NAME_PATTERN
from workload.services.targets import JOBS, ArmLabels, TargetFiles, instance_of

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ArmLabels(run="r1", experiment="vllm-metrics", arm="prefix-on")


def read(folder: Path) -> dict[str, object]:
    """Return every file's content by job."""
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_an_arm_replaces_all_targets(tmp_path: Path) -> None:
    """A target left over from the last arm would be counted in both."""
    files = TargetFiles(tmp_path / "targets")
    files.write(LABELS, vllm=["http://127.0.0.1:8000", "http://[::1]:8001"], exporter=["127.0.0.1:9400"])
    files.write(LABELS, vllm=["http://127.0.0.1:8000"], workload=["localhost:1"])
    assert read(files.folder) == {
        "vllm": [{"targets": ["127.0.0.1:8000"], "labels": LABELS.as_dict()}],
        "exporter": [],
        "workload": [{"targets": ["localhost:1"], "labels": LABELS.as_dict()}],
    }
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(f"{job}.json" for job in JOBS)


@pytest.mark.parametrize(
    ("endpoint", "address", "own"),
    [
        ("http://vllm_cpu:8000", "vllm_cpu:8000", {}),
        ("http://llm", "llm:80", {}),
        ("http://[::1]", "[::1]:80", {}),
        ("https://llm.example.org", "llm.example.org:443", {"__scheme__": "https"}),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", {"__scheme__": "https"}),
        ("http://gw/a%20b", "gw:80", {"__metrics_path__": "/a b/metrics", "instance": "gw:80/a%20b"}),
        ("http://gw:8080/team-a", "gw:8080", {"__metrics_path__": "/team-a/metrics", "instance": "gw:8080/team-a"}),
        (
            "https://gw/a/b",
            "gw:443",
            {"__scheme__": "https", "__metrics_path__": "/a/b/metrics", "instance": "gw:443/a/b"},
        ),
    ],
)
def test_row_27_prometheus_learns_where_an_engine_really_is(
    tmp_path: Path, endpoint: str, address: str, own: dict[str, str]
) -> None:
    """Without scheme and path it would scrape another page, or none, and the run would wait for samples in vain."""
    TargetFiles(tmp_path).write(LABELS, vllm=[endpoint])
    assert read(tmp_path)["vllm"] == [{"targets": [address], "labels": {**LABELS.as_dict(), **own}}]
    assert instance_of(endpoint) == own.get("instance", address)


@pytest.mark.parametrize(
    "endpoint", ["gw:8000", "ftp://gw", "http://", "http://[::1", "http://a b", "http://h:99999", ""]
)
def test_what_is_no_endpoint_is_no_target(tmp_path: Path, endpoint: str) -> None:
    """Prometheus skips a malformed target group with only a line in its log."""
    with pytest.raises(UsageError, match="not an endpoint"):
        TargetFiles(tmp_path).write(LABELS, vllm=[endpoint])


def test_clear_leaves_no_target(tmp_path: Path) -> None:
    """After a run nothing may be scraped under its name."""
    files = TargetFiles(tmp_path)
    files.write(LABELS, vllm=["http://127.0.0.1:8000"])
    files.clear()
    assert read(tmp_path) == {job: [] for job in JOBS}


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "http://127.0.0.1:8000", "user:pw@host:80", "host:80/metrics", "", "a:b"]
)
def test_an_address_must_be_host_and_port(tmp_path: Path, address: str) -> None:
    """Prometheus skips a malformed target group with only a line in its log."""
    with pytest.raises(UsageError, match="host:port"):
        TargetFiles(tmp_path).write(LABELS, exporter=[address])


@given(name=st.one_of(st.text(), st.from_regex(r"[a-z]{3}\n", fullmatch=True)))
def test_label_names_are_plain(name: str) -> None:
    """An arm's name becomes a label, a folder and a file name: one rule for all of them."""
    if NAME_PATTERN.fullmatch(name):
        assert ArmLabels("r", "e", name).as_dict()["arm"] == name
    else:
        with pytest.raises(UsageError, match="arm name"):
            ArmLabels("r", "e", name)


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    """Disk trouble has its own exit code, and the message says where."""
    (tmp_path / "targets").write_text("a file, not a folder")
    with pytest.raises(StorageError, match="targets"):
        TargetFiles(tmp_path / "targets").clear()
