"""Row 29: what a run keeps belongs to its owner under any umask: no other user may change it, and few may read it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workload.files import atomic_file
from workload.record.bundle import Bundle
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
UMASKS = (0o000, 0o002, 0o022, 0o077)


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the umask for a test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    """Return a path's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_row_29_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    """Folders above a run's were made with the umask alone: a group's 002 opened them to the group."""
    bundle = Bundle(tmp_path / "a" / "results", "run")
    files = [bundle.write_text("panels/x.csv", "x"), atomic_file.write(bundle.figures("ab") / "x.png", b"x")]
    folders = [each for path in files for each in path.parents if each.is_relative_to(tmp_path / "a")]
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in folders} == {0o700}
    targets = TargetFiles(tmp_path / "targets")
    targets.write(ArmLabels("run", "latency", "base"), vllm=["http://127.0.0.1:1"])
    assert mode(targets.folder / "vllm.json") == 0o644


def test_row_29_a_whole_run_leaves_nothing_that_others_may_change(tmp_path: Path) -> None:
    """Results, cache, targets and logs, of a run that was started with umask 000."""
    argv = [sys.executable, "-m", "tests.faults.stub_run", str(tmp_path), "0.01", "run", "latency"]
    done = subprocess.run(
        [*argv, "--limit", "2", "--max-hops", "1", "--record-prompts"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        umask=0,
    )
    assert done.returncode == 0, done.stderr
    made = [path for path in tmp_path.rglob("*") if path.name != "acknowledged"]
    assert [path for path in made if mode(path) & 0o022] == []
    results = [tmp_path / "results", *(tmp_path / "results").rglob("*")]
    assert len(results) > 10
    assert [path for path in results if mode(path) & 0o077] == []
    assert [path for path in made if mode(path) & 0o004 and path.is_file() and path.parent.name != "targets"] == []
