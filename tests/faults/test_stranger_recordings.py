"""Row 21: a recording of a stranger's, opened by `hop2rag demo`: nothing is deleted, and sizes have limits."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.home import CANARY, untouched
from workload.demo import recording as recording_module
from workload.demo.figures import draw_run
from workload.demo.recording import Recording, find_recordings, unpack
from workload.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def recorded(home: Path, runs: Any, **reported: Any) -> Path:
    """Write a recording's manifest; return its folder."""
    folder = home / "recording"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"label": "x", "start": 1, "end": 2, "runs": runs, **reported}))
    return folder


@pytest.mark.parametrize("run", ["{mine}", "../../mine", "..", "a/b", "x\n"])
def test_row_21_a_recording_deletes_nothing_of_the_users(home: Path, run: str) -> None:
    """The name of a run becomes a folder of the results, which was emptied first."""
    run = run.format(mine=home / "mine")
    (home / "results" / "demo").mkdir(parents=True)
    with pytest.raises(UsageError):
        find_recordings(recorded(home, {run: {"windows": 1}}))
    nobody: Any = None
    with pytest.raises(UsageError):
        draw_run(Recording(home / "recording", "x", 1.0, 2.0, (run,)), run, nobody, home / "results" / "demo")
    assert untouched(home)


@pytest.mark.parametrize("run", ["mine", "results"])
def test_row_21_a_recording_leaves_a_folder_of_its_runs_name_alone(home: Path, run: str) -> None:
    """With --results at home a plain name is enough: what is there and no demo's stays."""
    recording = Recording(home / "recording", "x", 1.0, 2.0, (run,))
    kept = home / run / "kept"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(CANARY)
    nobody: Any = None
    with pytest.raises(UsageError):
        draw_run(recording, run, nobody, home)
    assert kept.read_text() == CANARY


NOT_RECORDINGS: dict[str, dict[str, Any]] = {
    "markup that ends nothing, and a line break": {"label": "[/x]\n"},
    "an escape sequence": {"label": "\x1b]0;owned\x07"},
    "a label without end": {"label": "x" * 10**5},
    "a start without end": {"start": float("inf")},
    "a start that is no number": {"start": "now"},
    "an end that no calendar has": {"end": 1e18},
    "an end before the start": {"start": 3},
    "too many runs": {"runs": {f"r{number}": {"windows": 1} for number in range(1000)}},
    "a run that is none": {"runs": {"x": 1}},
}


@pytest.mark.parametrize("reported", NOT_RECORDINGS.values(), ids=NOT_RECORDINGS)
def test_row_21_a_recordings_manifest_is_within_every_range(home: Path, reported: dict[str, Any]) -> None:
    """Its words are printed and drawn, its times become a query and an address."""
    with pytest.raises(UsageError, match="not the manifest of a recording") as raised:
        find_recordings(recorded(home, **({"runs": {}} | reported)))
    assert str(raised.value).isprintable()


def test_row_21_a_deep_manifest_is_one_line(home: Path) -> None:
    """Python's parser ends in a RecursionError, which is no ValueError."""
    (recorded(home, {}) / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="not the manifest of a recording"):
        find_recordings(home / "recording")


def test_row_21_a_link_in_a_recording_is_not_followed(home: Path) -> None:
    """What it points to would be copied into the results and bound into the report."""
    folder = recorded(home, {"r": {"windows": 1}}) / "runs" / "r"
    folder.mkdir(parents=True)
    (folder / "summary.json").symlink_to(home / "mine" / "canary")
    with pytest.raises(UsageError, match="lead out of"):
        find_recordings(home / "recording")


def test_row_21_an_archive_is_unpacked_up_to_a_limit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """193 kB of xz expand to a gigabyte of zeros; the disk is the user's."""
    (home / "bomb.xz").write_bytes(lzma.compress(bytes(10**7)))
    monkeypatch.setattr(recording_module, "PIECE_BYTES", 1000)
    with pytest.raises(UsageError, match="larger than any recording"):
        unpack(home / "bomb.xz", home / "out", 10**6)
    assert not (home / "out").exists()
    assert unpack(home / "bomb.xz", home / "out") == 10**7
    assert (home / "out").stat().st_mode & 0o777 == 0o600


def test_row_21_an_archive_gets_the_memory_that_ours_need(home: Path) -> None:
    """The head of an archive says how much memory is taken, up to 4 GiB."""
    wide = lzma.compress(b"x", filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**28}])
    (home / "wide.xz").write_bytes(wide)
    with pytest.raises(UsageError, match="missing or damaged"):
        unpack(home / "wide.xz", home / "out")
