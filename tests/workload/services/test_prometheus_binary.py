"""Finding Prometheus with stand-in programs: which one is taken, which is refused, and what the user reads."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from workload.errors import MissingPartError
from workload.services.prometheus_binary import find_alertmanager, find_prometheus

if TYPE_CHECKING:
    from pathlib import Path


def program(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def installed(folder: Path, version: str) -> Path:
    """Put a Prometheus of that version into a folder."""
    program(folder / "prometheus", f"echo 'prometheus, version {version} (branch: x)'")
    program(folder / "promtool", "true")
    return folder


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH for the programs that are started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_order_is_variable_then_path_then_cache(tmp_path: Path) -> None:
    """A user who names a folder or installs a newer Prometheus must get that one."""
    cache = tmp_path / "cache"
    installed(cache / "prometheus" / "usr" / "bin", "2.42.0+ds")
    path = {"PATH": str(installed(tmp_path / "path", "2.55.1"))}
    named = path | {"HOP2RAG_PROMETHEUS": str(installed(tmp_path / "named", "3.5.0"))}
    versions = [find_prometheus(cache, environ).version for environ in ({}, path, named)]
    assert versions == [(2, 42, 0), (2, 55, 1), (3, 5, 0)]


@pytest.mark.parametrize("version", ["2.52.0", "2.53.0", "2.53.1"])
def test_versions_that_lose_samples_are_refused(tmp_path: Path, version: str) -> None:
    """They keep one of the hundred samples of a timeline's scrape and say nothing."""
    installed(tmp_path, version)
    with pytest.raises(MissingPartError, match=f"{version}, which loses samples"):
        find_prometheus(tmp_path, {"PATH": str(tmp_path)})


@pytest.mark.parametrize("version", ["2.51.2", "2.53.2"])
def test_their_neighbours_are_accepted(tmp_path: Path, version: str) -> None:
    """The refusal must be no wider than the fault."""
    installed(tmp_path, version)
    assert ".".join(map(str, find_prometheus(tmp_path, {"PATH": str(tmp_path)}).version)) == version


def test_a_named_folder_without_the_programs_is_an_error(tmp_path: Path) -> None:
    """Falling back would run another Prometheus than the one asked for."""
    with pytest.raises(MissingPartError, match=r"does not contain prometheus and promtool"):
        find_prometheus(tmp_path, os.environ | {"HOP2RAG_PROMETHEUS": str(tmp_path)})


def test_a_program_that_does_not_run_is_an_error(tmp_path: Path) -> None:
    """A binary of another architecture lies on PATH like any other."""
    installed(tmp_path, "2.42.0")
    program(tmp_path / "prometheus", "exit 126")
    with pytest.raises(MissingPartError, match="does not run"):
        find_prometheus(tmp_path, {"PATH": str(tmp_path)})


@pytest.mark.usefixtures("only")
def test_without_apt_the_message_says_what_to_install(tmp_path: Path) -> None:
    """On a system that is not Debian's there is nothing to unpack; the variable and the versions are the remedy."""
    with pytest.raises(MissingPartError, match=r"no apt-get.*Install Prometheus.*HOP2RAG_PROMETHEUS"):
        find_prometheus(tmp_path / "cache", {})
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".prometheus.lock"]


def test_missing_package_lists_name_the_command(only: Path, tmp_path: Path) -> None:
    """Fresh containers ship without lists; apt's own words do not say what to do."""
    program(only / "apt-get", "echo 'E: Unable to locate package prometheus' >&2; exit 100")
    with pytest.raises(MissingPartError, match="sudo apt-get update"):
        find_prometheus(tmp_path / "cache", {})


def test_apts_own_failure_is_passed_on(only: Path, tmp_path: Path) -> None:
    """Without the network apt knows the reason."""
    program(only / "apt-get", "echo 'E: Failed to fetch http://mirror/' >&2; exit 100")
    with pytest.raises(MissingPartError, match="Failed to fetch"):
        find_prometheus(tmp_path / "cache", {})


def test_of_many_who_unpack_at_once_one_does(only: Path, tmp_path: Path) -> None:
    """Tests and runs that begin together on a new machine found each other's folder where theirs was to go."""
    calls, ready = tmp_path / "calls", installed(tmp_path / "ready", "2.42.0+ds")
    program(only / "apt-get", f"echo x >> {calls}; : > prometheus_2.42.deb")
    program(only / "dpkg-deb", f"/bin/mkdir -p unpacked/usr && /bin/cp -r {ready} unpacked/usr/bin")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: find_prometheus(tmp_path / "cache", {}), range(8)))
    assert {each.prometheus for each in found} == {tmp_path / "cache" / "prometheus" / "usr" / "bin" / "prometheus"}
    assert calls.read_text().split() == ["x"]


@pytest.mark.parametrize("name", ["alertmanager", "prometheus-alertmanager"])
def test_an_installed_alertmanager_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    """Upstream and Debian name the program differently; an installed one finds its templates by itself."""
    program(tmp_path / name, "true")
    program(tmp_path / "amtool", "true")
    found = find_alertmanager(tmp_path / "cache", {"PATH": str(tmp_path)})
    assert found.command == (str(tmp_path / name),)
    assert found.amtool == tmp_path / "amtool"


def test_an_unpacked_alertmanager_that_cannot_run_is_refused(tmp_path: Path) -> None:
    """Where user namespaces are forbidden it would die at its start, over a template that the user does not know."""
    folder = tmp_path / "prometheus-alertmanager" / "usr" / "bin"
    program(folder / "prometheus-alertmanager", "exit 1")
    program(folder / "amtool", "true")
    with pytest.raises(MissingPartError, match=r"without being installed\. Install Alertmanager"):
        find_alertmanager(tmp_path, {"PATH": ""})
