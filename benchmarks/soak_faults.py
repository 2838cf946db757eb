"""A soak on the real CPU engine through three faults: the account must hold and the report be complete.

Usage: python benchmarks/soak_faults.py [--duration 30m] [--outage 4m] [--concurrency 2]

`hop2rag soak` runs from its command line, with the packaged engine, Prometheus and Alertmanager, and results on a small
file system of their own (a tmpfs, so this wants root). While it runs
- the engine's process is killed (SIGKILL) after 15 % of the time;
- Prometheus is stopped after 30 %, and started again when the outage is over;
- after 80 % that file system is filled up to 100 MiB, and emptied a little later.
Further arguments are `hop2rag soak`'s own, such as `--engine-python PATH --model FOLDER`. What is printed at the end is
read from the run's journal and report. Exit code 1 if anything is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from machine import describe

from workload.record.journal import read
from workload.services.listener import find_listener
from workload.services.process import free_port
from workload.soak.plan import seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# More than 1 GiB, below which the alert DiskFilling holds a run.
DISK_MIB, LEFT_MIB = 2048, 100
SAFE_WITHIN_SECONDS = 180.0
GRACE_SECONDS = 400.0
MIB = 2**20


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of its own and unmount it again."""
    folder = Path(tempfile.mkdtemp(prefix="soak-faults-"))
    subprocess.run(
        [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", folder],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount") or "umount", folder], check=True)
        folder.rmdir()


@dataclass
class Run:
    """A soak that runs, and the faults that were done to it, each with the seconds since the epoch."""

    root: Path
    duration: float
    outage: float
    concurrency: int
    further: list[str]
    faults: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine_port, self.prometheus_port, manager, webhook = (free_port() for _ in range(4))
        self.argv = [
            *(shutil.which("hop2rag") or str(Path(sys.executable).with_name("hop2rag")), "soak"),
            *("--duration", f"{self.duration:g}s", "--concurrency", str(self.concurrency), "--max-hops", "2"),
            *("--segment", f"{max(30, self.duration / 6):g}s", "--results", str(self.root)),
            *("--engine-port", str(self.engine_port), "--prometheus-port", str(self.prometheus_port)),
            *("--alertmanager-port", str(manager), "--webhook-port", str(webhook)),
            *self.further,
        ]
        self.restarted: subprocess.Popen[bytes] | None = None

    def checkpoint(self) -> dict[str, Any] | None:
        """Return the last checkpoint, once there is one."""
        for path in self.root.glob("runs/*/checkpoint.json"):
            return dict(json.loads(path.read_text()))
        return None

    def wait_until(self, elapsed: float, process: subprocess.Popen[bytes]) -> None:
        """Wait until the soak has used so many seconds of its duration."""
        while process.poll() is None:
            found = self.checkpoint()
            if found and found["elapsed_seconds"] >= elapsed:
                return
            time.sleep(0.5)
        raise SystemExit(f"The soak ended with {process.returncode} before {elapsed:g} s.")

    def kill_engine(self) -> None:
        """SIGKILL whoever serves the engine's port."""
        listener = find_listener(self.engine_port)
        if listener is None or listener.pid is None:
            raise SystemExit("No engine is seen on its port.")
        self.faults["engine"] = time.time()
        os.kill(listener.pid, signal.SIGKILL)

    def stop_prometheus(self) -> None:
        """Stop Prometheus, wait, and start it again with the same command line."""
        listener = find_listener(self.prometheus_port)
        if listener is None or listener.pid is None:
            raise SystemExit("No Prometheus is seen on its port.")
        self.faults["prometheus"] = time.time()
        process = psutil.Process(listener.pid)
        argv = process.cmdline()
        process.terminate()
        time.sleep(self.outage)
        self.faults["prometheus back"] = time.time()
        self.restarted = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def fill_disk(self) -> None:
        """Leave little room on the results' file system for some checkpoints, then make room again."""
        free = os.statvfs(self.root)
        self.faults["disk"] = time.time()
        filler = self.root / "filler"
        with filler.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, free.f_bavail * free.f_frsize - LEFT_MIB * MIB)
        time.sleep(15)
        filler.unlink()
        self.faults["disk back"] = time.time()

    def conduct(self) -> int:
        """Run the soak and the faults; return the soak's exit code."""
        process = subprocess.Popen(self.argv)
        try:
            steps: tuple[tuple[float, Callable[[], None]], ...] = (
                (0.15, self.kill_engine),
                (0.3, self.stop_prometheus),
                (0.8, self.fill_disk),
            )
            for share, fault in steps:
                self.wait_until(share * self.duration, process)
                print(f"{share:.0%}: {fault.__name__.replace('_', ' ')}", flush=True)
                fault()
            return process.wait(timeout=self.duration + GRACE_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            process.wait(60)
            if self.restarted:
                self.restarted.terminate()
                self.restarted.wait(60)


def judge(run: Run, code: int) -> list[str]:
    """Print what the run came to and return what is wrong with it."""
    (folder,) = (run.root / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    rows, actions = read(folder / "journal.sqlite", "question"), read(folder / "journal.sqlite", "action")
    account = summary["accounting"]
    failed = sum(account["failed"].values())
    answers = Counter((row["block"], row["question_id"]) for row in rows if row["outcome"] == "ok")
    done = [(row["action"], row["alert"]) for row in actions if row["status"] == "taken"]
    print(f"exit code {code}; {summary['ending']}; account: {json.dumps(account)}")
    for row in actions:
        print(f"  {row['at'] - summary['start']:7.1f} s  {row['action']:8} {row['alert']:12} {row['detail']}")
    for name, at in run.faults.items():
        after = [row["started_at"] for row in rows if row["outcome"] == "ok" and row["started_at"] > at]
        first = (
            f"first answered question begun {after[0] - at:.1f} s later" if after else "nothing was answered after it"
        )
        print(f"  {at - summary['start']:7.1f} s  {name}: {first}")
    safe = next((row["at"] for row in actions if (row["action"], row["alert"]) == ("pause", "Hop2RagWatchdog")), None)
    page = (folder / "report.html").read_text()
    checks = {
        "the soak finished": code == 0 and summary["ending"] == "finished",
        "scheduled = sent + dropped + paused": account["scheduled"]
        == account["sent"] + account["dropped"] + account["paused"],
        "sent = ok + failed + cancelled": account["sent"] == account["ok"] + failed + account["cancelled"] == len(rows),
        "no question answered twice": max(answers.values()) == 1,
        "the engine was started again": ("restart", "") in done,
        "the counters' reset is shown": bool(summary["counter_resets"]),
        "safe within three minutes of losing Prometheus": safe is not None
        and safe - run.faults["prometheus"] <= SAFE_WITHIN_SECONDS,
        "watched again afterwards": ("lift", "Hop2RagWatchdog") in done,
        "held while the disk was nearly full": [pair for pair in done if pair[1] == ""].count(("pause", "")) == 1,
        "answered after the last fault": any(
            row["outcome"] == "ok" and row["started_at"] > run.faults["disk back"] for row in rows
        ),
        "the report is complete": all(
            part in page for part in ("data:image/png", "Account:", "Actions:", "<td>0</td>")
        ),
    }
    if safe:
        print(f"Prometheus stopped -> safe state: {safe - run.faults['prometheus']:.1f} s")
    for name, is_right in checks.items():
        print(f"{'ok  ' if is_right else 'FAIL'} {name}")
    return [name for name, is_right in checks.items() if not is_right]


def main() -> int:
    """Run, judge, and return 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=seconds_of, default=1800.0)
    parser.add_argument("--outage", type=seconds_of, default=240.0)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="copy the run's folder here")
    options, further = parser.parse_known_args()
    print(describe("hop2rag-observatory"), flush=True)
    with small_disk() as root:
        run = Run(root, options.duration, options.outage, options.concurrency, further)
        code = run.conduct()
        wrong = judge(run, code)
        if options.keep:
            shutil.copytree(root / "runs", options.keep, dirs_exist_ok=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
