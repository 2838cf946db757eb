"""Kill runs at random points, resume them, and count what was lost: nothing may be, and nothing may count twice.

Usage: python benchmarks/sigkill.py [--kills 200] [--seed N]
       python benchmarks/sigkill.py --suite --kills 20

A run is `hop2rag run` (or `hop2rag suite`) from its command line in a process of its own, with stubs for the engine,
Prometheus, the corpus and the models (tests/stubs/world.py). It gets SIGKILL after a random time between its start and
the length of an uninterrupted run, is resumed, and may be killed again. Acknowledgements are noted outside the journal,
when they are given. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import describe

from tests.stubs.model import write_model
from tests.stubs.vllm import Turn
from tests.stubs.world import stub_world
from workload.cli import run_command_line
from workload.corpus.synthetic import generate
from workload.record import journal

SMALL = ("--max-hops", "1", "--seed", "7")
RUN = ("run", "vllm-metrics", "--limit", "6", "--order", "AB", *SMALL)
SUITE = ("suite", "--smoke", "--limit", "2", *SMALL)
CALL_SECONDS = 0.02
MAX_KILLS_A_RUN = 4
TIMEOUT_SECONDS = 120.0
WARM_UP = "warm-up"
# It asks no engine and takes seconds, so it starts again, and asks every question anew.
STARTS_AGAIN = "kv-cache"

Answer = tuple[str, int, str, str]
"""Arm, block, phase and question id."""


@dataclass
class Found:
    """What all kills together came to."""

    kills: int = 0
    runs: int = 0
    acknowledged: int = 0
    lost: list[Any] = field(default_factory=list)
    twice: list[Any] = field(default_factory=list)
    incomplete: list[Any] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    phases: Counter[str] = field(default_factory=Counter)


def start(arguments: list[str], folder: Path) -> int:
    """Start a command line of `hop2rag` in a process of its own; return its id. What it prints goes to folder/log."""
    if pid := os.fork():
        return pid
    os.setsid()
    log = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ["ACKNOWLEDGED"] = str(folder / "acknowledged")
    os.environ["HOP2RAG_CACHE"] = str(folder / "cache")
    code = 1
    try:
        code = run_command_line([*arguments, "--results", str(folder / "results")])
    except BaseException:  # noqa: BLE001 - what goes on beyond this is the parent's work, not the child's
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """Wait for a process to end; return its exit code, None when it still runs after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def begun(folder: Path, experiment: str) -> str | None:
    """Return the name of the run that was begun, as a user finds it: by its manifest."""
    for manifest in sorted((folder / "results" / "runs").glob("*/manifest.json")):
        if json.loads(manifest.read_text())["experiment"] == experiment:
            return manifest.parent.name
    return None


def phase_of(folder: Path) -> str:
    """Return where the newest run of a results folder was when it was killed."""
    manifests = sorted((folder / "results" / "runs").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    engines = [path for path in manifests if (path.parent / "journal.sqlite").exists()]
    if not manifests:
        return "before the manifest"
    if not engines:
        return "before the journal"
    manifest = json.loads(engines[-1].read_text())
    if (engines[-1].parent / "summary.json").exists():
        return "after the summary"
    last = manifest.get("last_phase")
    if last is None:
        return "in the first warm-up"
    windows = len(manifest.get("measured", ()))
    return f"{windows} windows closed, after {'the warm-up' if last['phase'] == WARM_UP else 'a load'}"


def acknowledged(folder: Path) -> Counter[tuple[str, Answer]]:
    """Return what was acknowledged, by the run's name, warm-ups and what starts again left out."""
    file, found = folder / "acknowledged", Counter[tuple[str, Answer]]()
    for line in file.read_text().splitlines() if file.exists() else ():
        path, arm, block, phase, question, _ = json.loads(line)
        if phase != WARM_UP and STARTS_AGAIN not in path:
            found[Path(path).parent.name, (arm, block, phase, question)] += 1
    return found


def recorded(folder: Path) -> Counter[tuple[str, Answer]]:
    """Return what the journals say was answered or failed, by the run's name."""
    found: Counter[tuple[str, Answer]] = Counter()
    for path in (folder / "results" / "runs").glob("*/journal.sqlite"):
        for row in journal.read(path, "question") if STARTS_AGAIN not in path.parent.name else ():
            if row["outcome"] in {"ok", "failed"} and row["phase"] != WARM_UP:
                found[path.parent.name, (row["arm"], row["block"], row["phase"], row["question_id"])] += 1
    return found


def answers(counts: Counter[tuple[str, Answer]], name: str) -> set[tuple[str, Answer]]:
    """Return what was counted, with the run's own name taken out: two runs have the same set."""
    return {(run.replace(name, ""), answer) for run, answer in counts}


def uninterrupted(arguments: list[str], experiment: str, folder: Path) -> tuple[float, set[tuple[str, Answer]]]:
    """Run once without a kill; return how long it took and what was acknowledged."""
    folder.mkdir()
    began = time.monotonic()
    code = wait(start(arguments, folder), TIMEOUT_SECONDS)
    if code != 0:
        raise SystemExit(f"An uninterrupted run ended with {code}:\n{(folder / 'log').read_text()[-2000:]}")
    return time.monotonic() - began, answers(acknowledged(folder), str(begun(folder, experiment)))


def sweep(arguments: list[str], experiment: str, kills: int, chance: random.Random, root: Path) -> Found:
    """Kill until there were so many kills; every run is resumed until it has finished."""
    seconds, expected = uninterrupted(arguments, experiment, root / "uninterrupted")
    print(f"Uninterrupted: {seconds:.1f} s, {len(expected)} questions acknowledged.", flush=True)
    found = Found()
    while found.kills < kills:
        folder = root / str(found.runs)
        folder.mkdir()
        is_done, killed = False, 0
        while not is_done:
            name = begun(folder, experiment)
            pid = start([*arguments, *(["--resume", name] if name else [])], folder)
            is_spared = killed == MAX_KILLS_A_RUN or found.kills == kills
            code = wait(pid, TIMEOUT_SECONDS if is_spared else chance.uniform(0, seconds))
            if code is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                found.kills += 1
                killed += 1
                found.phases[phase_of(folder)] += 1
                if is_spared:
                    found.failures.append(f"run {found.runs} did not end within {TIMEOUT_SECONDS:g} s")
                    break
            elif code:
                found.failures.append(f"run {found.runs} ended with {code}: {(folder / 'log').read_text()[-800:]}")
                break
            is_done = code == 0
        if is_done:
            judge(folder, experiment, expected, found)
        found.runs += 1
        shutil.rmtree(folder)
    return found


def judge(folder: Path, experiment: str, expected: set[tuple[str, Answer]], found: Found) -> None:
    """Compare what was acknowledged with what the journals hold at the end, and with a run that was never killed."""
    name = begun(folder, experiment)
    told, kept = acknowledged(folder), recorded(folder)
    found.acknowledged += len(told)
    found.lost += [(found.runs, answer) for answer in told if answer not in kept]
    found.twice += [(found.runs, answer) for answer, count in kept.items() if count > 1]
    found.twice += [(found.runs, answer) for answer, count in told.items() if count > 1]
    if (reached := answers(kept, str(name))) != expected:
        found.incomplete.append((found.runs, sorted(expected ^ reached)[:3]))


def main() -> int:
    """Sweep, print what was found, and return 1 if anything was lost, counted twice or not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--suite", action="store_true", help="kill whole suites instead of one experiment")
    parser.add_argument("--figures", action="store_true", help="draw the figures too, which takes most of the time")
    parser.add_argument("--seed", type=int, default=None, help="repeat a sweep (default: a new one)")
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    print(f"seed {seed}; {describe('hop2rag-observatory')}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="sigkill-"))
    questions = generate(questions=40, passages=120, seed=3)
    arguments = [*(SUITE if options.suite else RUN), "--figures" if options.figures else "--no-figures"]
    experiment = "suite" if options.suite else RUN[1]
    began = time.monotonic()
    try:
        with stub_world(questions, write_model(root / "model", questions), lambda _: Turn(seconds=CALL_SECONDS)):
            found = sweep(arguments, experiment, options.kills, random.Random(seed), root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(
        f"hop2rag {' '.join(arguments)}: {found.kills} kills over {found.runs} runs, {time.monotonic() - began:.0f} s"
    )
    for phase, count in found.phases.most_common():
        print(f"  {count:4d} kills {phase}")
    print(f"{found.acknowledged} questions acknowledged, {len(found.lost)} lost, {len(found.twice)} counted twice")
    print(f"{len(found.incomplete)} runs reached another set than an uninterrupted run")
    problems = [*found.lost, *found.twice, *found.incomplete, *found.failures]
    for problem in problems[:10]:
        print(f"  {problem}")
    return 1 if problems or found.kills < options.kills else 0


if __name__ == "__main__":
    raise SystemExit(main())
