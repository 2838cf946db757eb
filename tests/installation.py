"""Builds wheel and sdist, installs the wheel into empty environments, runs it there, and says what that takes.

`make installation` runs it. It fails if the base and the extra [langgraph] take more than `MAX_MB` beyond what
langgraph itself installs, if the two archives differ, or if a command does not answer outside the repository.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PROJECT = "hop2rag-observatory"
MAX_MB = 40
MEGABYTE = 1e6


def build(folder: Path) -> Path:
    """Return the wheel, built into `folder`, once its sdist is known to build the same files."""
    hatchling = Path(sys.executable).with_name("hatchling")
    subprocess.run([hatchling, "build", "-d", folder], cwd=ROOT, check=True, stderr=subprocess.DEVNULL)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    subprocess.run(
        [hatchling, "build", "-t", "wheel", "-d", folder / "again"], cwd=source, check=True, stderr=subprocess.DEVNULL
    )
    (again,) = (folder / "again").iterdir()
    if contents(wheel) != contents(again):
        raise SystemExit(f"The sdist builds another wheel: {contents(wheel) ^ contents(again)}.")
    return wheel


def contents(wheel: Path) -> set[tuple[str, int]]:
    """Return each file of a wheel with its checksum."""
    with zipfile.ZipFile(wheel) as archive:
        return {(entry.filename, entry.CRC) for entry in archive.infolist()}


class Environment:
    """An empty environment, which `uv` fills without its cache."""

    def __init__(self, folder: Path, uv: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        self.folder = folder
        self.uv = uv

    def install(self, requirement: str) -> float:
        """Install a requirement, and return how many seconds that took."""
        start = time.perf_counter()
        pip = [self.uv, "pip", "install", "--quiet", "--no-cache", "--compile-bytecode", "--python"]
        subprocess.run([*pip, self.bin / "python", requirement], check=True)
        return time.perf_counter() - start

    def megabytes(self) -> float:
        """Return how much is installed."""
        return sum(path.stat().st_size for path in self.packages.rglob("*") if path.is_file()) / MEGABYTE

    def answers(self, *command: str) -> None:
        """Run a command outside the repository; anything but exit code 0 ends the check."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HOP2RAG"))}
        subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.folder, env=environ, check=True, stdout=subprocess.DEVNULL
        )


def report(name: str, environment: Environment, seconds: float) -> float:
    """Print what an installation takes, and return its megabytes."""
    size = environment.megabytes()
    print(f"{name:40} {size:8.1f} MB {seconds:7.1f} s")
    return size


def main() -> None:
    """Build, install, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", action="store_true", help="Install the extra [run], too: gigabytes and minutes.")
    parser.add_argument("--uv", type=Path, required=True, help="The program uv.")
    given = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = build(folder / "dist")
        alone, ours = (Environment(folder / name, given.uv.absolute()) for name in ("langgraph", "ours"))
        langgraph = report("langgraph alone", alone, alone.install("langgraph>=1.2.6"))
        report("base", ours, took := ours.install(str(wheel)))
        ours.answers("hop2rag", "--help")
        ours.answers("hop2rag-exporter", "--version")
        extra = ours.install(f"{wheel}[langgraph]")
        both = report("base and [langgraph]", ours, took + extra)
        ours.answers("python", "-c", "from exporter.langgraph import MeteringHandler; MeteringHandler()")
        print(f"beyond langgraph: {both - langgraph:.1f} MB (at most {MAX_MB})")
        if given.run:
            report("base and [run]", ours, took + extra + ours.install(f"{wheel}[run]"))
            ours.answers("hop2rag", "dashboards", "dashboards")
    if both - langgraph > MAX_MB:
        raise SystemExit("The base has grown beyond its bar: move what only experiments need into the extra [run].")


if __name__ == "__main__":
    main()
