"""The password and the tokens: made once, kept, readable in their volumes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from workload.compose.configs import first_targets
from workload.compose.credentials import CREDENTIALS, make
from workload.errors import StorageError
from workload.services.locks import FileLock
from workload.services.targets import ArmLabels, TargetFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Empty volumes, mounted."""
    for credential in CREDENTIALS:
        (tmp_path / credential.file).parent.mkdir()
    return tmp_path


def test_a_second_start_changes_nothing(volumes: Path) -> None:
    """Grafana takes its password at its first start alone: a new one would be written down and not work."""
    assert [is_new for _, is_new in make(volumes)] == [True] * len(CREDENTIALS)
    before = [(volumes / credential.file).read_text() for credential in CREDENTIALS]
    assert [is_new for _, is_new in make(volumes)] == [False] * len(CREDENTIALS)
    assert [(volumes / credential.file).read_text() for credential in CREDENTIALS] == before
    assert len(set(before)) == len(CREDENTIALS)
    assert min(map(len, before)) >= 24


def test_a_file_cut_short_is_made_again(volumes: Path) -> None:
    """An empty token would admit every client, or refuse all."""
    make(volumes)
    path = volumes / CREDENTIALS[0].file
    path.chmod(0o644)
    path.write_text("\n")
    assert [is_new for _, is_new in make(volumes)] == [True, False, False]
    assert path.read_text().strip()


@pytest.mark.parametrize("name", ["admin-password", ".admin-password"])
def test_a_link_in_a_volume_is_replaced(volumes: Path, tmp_path: Path, name: str) -> None:
    """The service that reads a volume may be taken over: what it lays there leads to no file."""
    (tmp_path / "own").write_text("precious")
    (volumes / "grafana" / name).symlink_to(tmp_path / "own")
    make(volumes)
    password = volumes / "grafana" / "admin-password"
    assert not password.is_symlink()
    assert password.read_text() not in {"precious", ""}
    assert (tmp_path / "own").read_text() == "precious"


def test_services_of_other_users_can_read_them(volumes: Path) -> None:
    """Grafana, the renderer and Alertmanager run as users of their own."""
    make(volumes)
    assert {(volumes / credential.file).stat().st_mode & 0o777 for credential in CREDENTIALS} == {0o444}


def test_a_volume_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    """Otherwise the secret would be written into the container and be lost with it."""
    with pytest.raises(StorageError, match=r"grafana/admin-password.*Mount its volume"):
        make(tmp_path)


def test_targets_of_a_run_are_not_overwritten(tmp_path: Path) -> None:
    """`docker compose up` during an experiment, or beside the load, starts `init` again."""
    lock = FileLock(tmp_path)
    for used in (lock, lock.load_lock()):
        with used.acquire_now():
            TargetFiles(tmp_path).write(ArmLabels("r", "e", "a"), vllm=["http://gpu:8000"])
            first_targets(tmp_path)
            assert "gpu:8000" in (tmp_path / "vllm.json").read_text()


def test_an_engine_that_has_not_come_up_is_not_scraped(tmp_path: Path) -> None:
    """Seen: at each start VllmDown fired until the engine was ready, with a GPU as long as a download of 15 GB."""
    TargetFiles(tmp_path).write(ArmLabels("live", "load", "load"), vllm=["http://vllm:8000"], workload=["gone:9500"])
    first_targets(tmp_path)
    found = TargetFiles(tmp_path).addresses()
    assert found == {"vllm": [], "workload": [], "exporter": ["exporter:9400"]}
