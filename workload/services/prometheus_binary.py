"""Finding Prometheus and Alertmanager: a named folder, PATH, or Debian's package unpacked without root."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workload.errors import MissingPartError
from workload.files.atomic_file import make_folder
from workload.files.install_lock import alone
from workload.services.child_environment import INSTALLER, child_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FOLDER_VARIABLE = "HOP2RAG_PROMETHEUS"
LOSES_SAMPLES = ((2, 52, 0), (2, 53, 1))
"""First and last version that keep one sample of a series with explicit timestamps per scrape and drop the rest."""

DOWNLOAD_TIMEOUT_SECONDS = 300
REMEDY = (
    "Install Prometheus (2.42 or later, not 2.52.0 to 2.53.1) with promtool on PATH, "
    f"or set {FOLDER_VARIABLE} to the folder with both."
)
ALERTMANAGER_REMEDY = "Install Alertmanager (0.25 or later) with amtool on PATH."
PROMETHEUS = ("prometheus", "promtool")
DEBIAN_ALERTMANAGER = ("prometheus-alertmanager", "amtool")
IN_OWN_NAMESPACE = (
    *("unshare", "--map-root-user", "--mount"),
    # A new user namespace loses the request to end with the parent, so setpriv repeats it.
    *("sh", "-c", 'mount --bind "$0" /usr/share && exec setpriv --pdeathsig TERM "$@"'),
)


@dataclass(frozen=True)
class PrometheusBinary:
    """The two programs and the version they report."""

    prometheus: Path
    promtool: Path
    version: tuple[int, int, int]


@dataclass(frozen=True)
class AlertmanagerBinary:
    """The command that starts Alertmanager, without its flags, and its tool."""

    command: tuple[str, ...]
    amtool: Path


def find_prometheus(cache: Path, environ: Mapping[str, str] = os.environ) -> PrometheusBinary:
    """Return $HOP2RAG_PROMETHEUS's binaries, else those on PATH, else Debian's in `cache/prometheus` (unpacked once).

    Raises:
        MissingPartError: none are found and none can be installed here, or their version loses samples.
    """
    if folder := environ.get(FOLDER_VARIABLE):
        if not (pair := _pair(folder, *PROMETHEUS)):
            raise MissingPartError(f"{FOLDER_VARIABLE}={folder} does not contain prometheus and promtool.", REMEDY)
    elif not (pair := _pair(environ.get("PATH", ""), *PROMETHEUS)):
        pair = _debian_pair("prometheus", cache, PROMETHEUS, REMEDY)
    version = _read_version(pair[0])
    if LOSES_SAMPLES[0] <= version <= LOSES_SAMPLES[1]:
        shown = ".".join(map(str, version))
        raise MissingPartError(f"{pair[0]} is Prometheus {shown}, which loses samples of the timelines.", REMEDY)
    return PrometheusBinary(*pair, version)


def find_alertmanager(cache: Path, environ: Mapping[str, str] = os.environ) -> AlertmanagerBinary:
    """Return the programs on PATH, under upstream's name or Debian's, else Debian's in `cache/prometheus-alertmanager`.

    Debian's build reads its templates from /usr/share only, so the unpacked one runs in a mount namespace of its own
    with the package's folder there. The kernel must allow user namespaces.

    Raises:
        MissingPartError: none are found and none can be installed here.
    """
    path = environ.get("PATH", "")
    if pair := _pair(path, "alertmanager", "amtool") or _pair(path, *DEBIAN_ALERTMANAGER):
        return AlertmanagerBinary((str(pair[0]),), pair[1])
    server, tool = _debian_pair("prometheus-alertmanager", cache, DEBIAN_ALERTMANAGER, ALERTMANAGER_REMEDY)
    command = (*IN_OWN_NAMESPACE, str(server.parents[1] / "share"), str(server))
    try:
        subprocess.run([*command, "--version"], env=child_environment(), capture_output=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingPartError(
            "Debian's Alertmanager does not run without being installed.", ALERTMANAGER_REMEDY
        ) from error
    return AlertmanagerBinary(command, tool)


def _pair(path: str, server: str, tool: str) -> tuple[Path, Path] | None:
    found = shutil.which(server, path=path), shutil.which(tool, path=path)
    return (Path(found[0]), Path(found[1])) if found[0] and found[1] else None


def _debian_pair(package: str, cache: Path, names: tuple[str, str], remedy: str) -> tuple[Path, Path]:
    """Return the programs of a Debian package in `cache/package`; unpack it there first if it is missing."""
    unpacked = cache / package
    path = str(unpacked / "usr" / "bin")
    if not (pair := _pair(path, *names)):
        make_folder(cache)
        with alone(cache / f".{package}.lock"):
            if not (pair := _pair(path, *names)):
                _unpack_debian_package(package, unpacked, remedy)
                pair = _pair(path, *names)
    if not pair:
        raise MissingPartError(f"Debian's package {package} does not contain {' and '.join(names)}.", remedy)
    return pair


def _read_version(prometheus: Path) -> tuple[int, int, int]:
    try:
        # Prometheus 2.42 to 2.47 print to standard output, older releases to standard error.
        shown = subprocess.run(
            [prometheus, "--version"],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingPartError(f"{prometheus} does not run ({error}).", REMEDY) from error
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", shown.stdout + shown.stderr)
    if not match:
        raise MissingPartError(f"{prometheus} does not print its version.", REMEDY)
    return int(match[1]), int(match[2]), int(match[3])


def _unpack_debian_package(package: str, destination: Path, remedy: str) -> None:
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{package}-") as name:
        scratch = Path(name)
        # By default apt downloads as a user who cannot write here, and warns: stay root.
        _run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], scratch, remedy)
        (archive,) = scratch.glob("*.deb")
        _run(["dpkg-deb", "-x", str(archive), "unpacked"], scratch, remedy)
        shutil.rmtree(destination, ignore_errors=True)
        (scratch / "unpacked").rename(destination)


def _run(argv: Sequence[str], folder: Path, remedy: str) -> None:
    try:
        subprocess.run(
            argv,
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
            env={**child_environment(INSTALLER), "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise MissingPartError(
            f"Not installed, and there is no {argv[0]} to download Debian's package with.", remedy
        ) from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        if any("Unable to locate package" in line or "Can't find a source" in line for line in said):
            raise MissingPartError(
                "Not installed, and apt's package lists are missing or old.",
                f"Run `sudo apt-get update` and try again. Or: {remedy}",
            ) from error
        raise MissingPartError(f"`{' '.join(argv)}` failed: {said[-1] if said else error}.", remedy) from error
    except subprocess.TimeoutExpired as error:
        raise MissingPartError(f"`{' '.join(argv)}` took over {error.timeout:g} s.", remedy) from error
