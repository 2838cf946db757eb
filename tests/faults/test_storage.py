"""Row 15: a disk that is full or read-only costs nothing that was on it, and says so in one line."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure

from workload.charts.canvas import save
from workload.errors import StorageError
from workload.files import atomic_file
from workload.record.bundle import Bundle, read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Mount = Callable[..., Path]

# What one durable write asks of the disk, in this order.
STEPS = ("open", "fsync of the file", "rename", "open of the folder", "fsync of the folder")


class FullDisk:
    """Lets `left` requests to the disk through and answers the next with ENOSPC."""

    def __init__(self, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = left
        for owner, name in ((os, "open"), (os, "fsync"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        return asked


@pytest.mark.parametrize("passed", range(3 * len(STEPS)))
def test_row_15_full_at_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passed: int) -> None:
    """Whichever request of three checkpoints meets a full disk, the manifest is a whole one, and no draft is left."""
    bundle = Bundle(tmp_path, "run")
    bundle.note(checkpoint=0)
    noted = 0
    with monkeypatch.context() as patch:
        FullDisk(passed, patch)
        for _ in range(passed // len(STEPS)):
            noted += 1
            bundle.note(checkpoint=noted)
        with pytest.raises(StorageError, match="No space left on device") as raised:
            bundle.note(checkpoint=noted + 1)
    assert raised.value.exit_code == 5
    is_renamed = passed % len(STEPS) > STEPS.index("rename")
    assert read_manifest(bundle.folder)["checkpoint"] == noted + is_renamed
    assert [path.name for path in bundle.folder.iterdir()] == ["manifest.json"]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Return what mounts a file system of 256 KiB at tmp_path/disk, with options."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
        return disk

    yield run
    subprocess.run(["umount", "--lazy", disk], check=False, capture_output=True)


def test_row_15_a_disk_that_fills_up_keeps_the_last_checkpoint(mount: Mount) -> None:
    """A real file system without space: what was written before is whole, and space is not taken by half a file."""
    disk = mount("size=256k")
    path, written = disk / "state.json", []

    def fill() -> None:
        for size in range(4096, 10**6, 4096):
            atomic_file.write(path, "x" * size)
            written.append(size)

    with pytest.raises(StorageError, match="No space left"):
        fill()
    assert path.read_text() == "x" * written[-1]
    assert [file.name for file in disk.iterdir()] == ["state.json"]


def test_row_15_a_figure_that_does_not_fit_leaves_the_old_one(mount: Mount) -> None:
    """A PNG cut short opens in no viewer; the picture of the run before does."""
    disk = mount("size=64k")
    path = save(Figure(figsize=(1, 1)), disk / "figure.png")
    before = path.read_bytes()
    (disk / "ballast").write_bytes(bytes(52 * 1024))
    with pytest.raises(StorageError, match=r"figure\.png cannot be written"):
        save(Figure(figsize=(8, 8)), path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


def test_row_15_read_only_results_are_refused_before_the_run(mount: Mount) -> None:
    """An hour of engine time must not be spent for results that cannot be kept."""
    disk = mount("size=256k,ro")
    with pytest.raises(StorageError, match=r"Read-only file system\. Choose another --results"):
        Bundle(disk, "run")


def test_row_15_a_folder_in_the_file_s_place_is_no_traceback(tmp_path: Path) -> None:
    """Whatever the file system refuses is an error with a cause and a remedy."""
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="taken cannot be written"):
        atomic_file.write(tmp_path / "taken", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
