"""A run's folder: written whole or not at all, readable by its owner only, and never outside the root."""

from __future__ import annotations

import csv
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from workload.errors import StorageError, UsageError
from workload.paths import NAME_PATTERN
from workload.record import bundle as bundle_module
from workload.record import bundle as module
from workload.record.bundle import Bundle, new_run_id, open_bundle, read_manifest

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_s_name_sorts_by_time_and_is_plain() -> None:
    """It becomes a folder, a label value and a command-line argument."""
    names = [new_run_id("vllm-metrics", datetime(2025, 1, 31, hour, 5, 9, tzinfo=UTC)) for hour in (9, 23)]
    assert names == sorted(names) == ["20250131-090509-vllm-metrics", "20250131-230509-vllm-metrics"]
    assert all(NAME_PATTERN.match(name) for name in names)


def test_the_manifest_grows(tmp_path: Path) -> None:
    """It is written from the start, so that a run that was killed still says what it was."""
    bundle = Bundle(tmp_path, "run")
    bundle.start("vllm-metrics", {"limit": 3})
    bundle.note(status="finished", blocks=[1])
    manifest = read_manifest(tmp_path / "runs" / "run")
    assert (manifest["run"], manifest["experiment"], manifest["status"]) == ("run", "vllm-metrics", "finished")
    assert (manifest["settings"], manifest["blocks"]) == ({"limit": 3}, [1])
    assert {"openai", "chromadb", "hop2rag-observatory"} <= manifest["versions"].keys()


def test_a_run_that_goes_on_keeps_its_manifest(tmp_path: Path) -> None:
    """A further note must not drop what the interrupted process had written."""
    first = Bundle(tmp_path, "run")
    assert not first.is_begun
    first.note(started="then")
    later = Bundle(tmp_path, "run")
    assert later.is_begun
    assert later.resume() == {"started": "then"}
    later.note(status="running")
    assert read_manifest(later.folder) == {"started": "then", "status": "running"}


@pytest.mark.parametrize("folder", ["", "absent", "file"])
def test_row_16_no_manifest_is_no_run(tmp_path: Path, folder: str) -> None:
    """A name typed wrong is said in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="no run with a manifest"):
        read_manifest(tmp_path / folder)


def test_csv_and_json_can_be_read_back(tmp_path: Path) -> None:
    """Whoever draws a figure anew needs the very numbers."""
    bundle = Bundle(tmp_path, "run")
    path = bundle.write_csv("panels/x.csv", ("arm", "value"), [("a,b", 0.1), ('\u010d"d', None)])
    with path.open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["arm", "value"], ["a,b", "0.1"], ['\u010d"d', ""]]
    bundle.note_promql("x", ["up"])
    bundle.note_promql("y", ["down"])
    assert json.loads((bundle.folder / "promql.json").read_text()) == {"x": ["up"], "y": ["down"]}


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    """Journals may contain prompts; the folder's mode alone does not follow a file that is copied."""
    bundle = Bundle(tmp_path, "run")
    files = [bundle.write_text("a.txt", "x"), bundle.write_csv("b/c.csv", ("x",), [])]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert bundle.folder.stat().st_mode & 0o777 == 0o700


def test_row_15_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a manifest over a whole one would lose the run; exit code 5, and the old one stays."""
    bundle = Bundle(tmp_path, "run")
    bundle.note(status="running")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as raised:
        bundle.note(status="finished")
    assert raised.value.exit_code == 5
    assert read_manifest(bundle.folder) == {"status": "running"}


def test_row_15_space_is_checked_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of engine time must not end in a full disk that was full at the start."""
    monkeypatch.setattr(bundle_module, "MIN_FREE_BYTES", 2**62)
    with pytest.raises(StorageError, match="MiB free"):
        Bundle(tmp_path, "run")


def test_a_root_that_cannot_be_made(tmp_path: Path) -> None:
    """The remedy is another --results."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Choose another --results"):
        Bundle(tmp_path / "file", "run")


@pytest.mark.parametrize("name", ["../../etc/x", "..", "a/b", "", "x\n"])
def test_row_20_nothing_is_written_outside_the_root(tmp_path: Path, name: str) -> None:
    """A name is refused before a folder is made."""
    root = tmp_path / "results"
    with pytest.raises(UsageError, match="not a plain name"):
        Bundle(root, name)
    assert not list(tmp_path.iterdir())


def test_row_20_a_link_in_the_results_leads_nowhere(tmp_path: Path) -> None:
    """A link laid under a run's name must not receive its files."""
    (tmp_path / "results" / "runs").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "results" / "runs" / "run").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="resolves outside"):
        Bundle(tmp_path / "results", "run")
    assert not list((tmp_path / "outside").iterdir())


def test_row_21_a_link_to_another_runs_pictures_is_not_followed(tmp_path: Path) -> None:
    """It lies inside the root, and pictures of an earlier run are removed where it leads."""
    bundle, other = Bundle(tmp_path, "run"), Bundle(tmp_path, "other")
    (tmp_path / "hop2rag").mkdir()
    (tmp_path / "hop2rag" / "latency").symlink_to(other.folder)
    with pytest.raises(UsageError, match="resolves outside"):
        bundle.figures("latency")


def test_row_21_a_root_that_is_a_link_is_the_users_own(tmp_path: Path) -> None:
    """Results are large: a user keeps them on another disk, and says so by a link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    bundle = Bundle(tmp_path / "results", "run")
    bundle.note(status="running")
    assert read_manifest(tmp_path / "disk" / "runs" / "run") == {"status": "running"}
    assert bundle.figures("latency") == tmp_path / "disk" / "hop2rag" / "latency"


@pytest.mark.parametrize(
    "content", [b"", b"{half", b"[" * 100_000, b"\xff\xfe{\x00", b"{", b"\0", b'{"a": ' + b"9" * 9000 + b"}"]
)
def test_row_21_a_manifest_that_is_there_is_not_said_to_be_missing(tmp_path: Path, content: bytes) -> None:
    """A search for its name in the folder would never end."""
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read") as refused:
        read_manifest(tmp_path)
    assert "\n" not in str(refused.value)


def test_row_22_runs_that_begin_in_the_same_second_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They had one folder: the second took the first one's journal for its own and went on with it."""
    monkeypatch.setattr(module, "new_run_id", lambda experiment, _: f"20250131-235959-{experiment}")
    runs = [open_bundle(tmp_path, None, "latency").run_id for _ in range(3)]
    assert runs == ["20250131-235959-latency", "20250131-235959-latency-2", "20250131-235959-latency-3"]
    assert open_bundle(tmp_path, runs[1], "latency").run_id == runs[1]
