"""Count the gate's false alarms, and its finds of +5 %, on resamples of recorded paired noise.

Usage: python benchmarks/gate.py [--resamples 10000]

The two arms of the recorded concurrency run asked the same questions at the same loads of the same model on one GPU,
at two engine starts that differ in limits of the batch. The log ratios of a question's two times, less their median,
are paired noise as a gate meets it. Each resample draws as many questions as the load had, with the sign of each ratio
tossed, so that its true median is 0, and judges them at a tolerance of 0, where an alarm is likeliest, and at 3 %.
Exit code 1 if more than 0.2 % of resamples raise an alarm.
"""

from __future__ import annotations

import argparse
import lzma
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from workload.analysis.ab import COMPARED
from workload.analysis.gate import FALSE_ALARMS, TIMES
from workload.record.manifest import manifest_in
from workload.record.results import RunData, read_run
from workload.statistics.regression import bounds, judged

RECORDINGS = Path(__file__).parents[1] / "tests" / "fixtures" / "reference-run"
TOLERANCE, SLOWER = 0.03, 0.05
MIN_QUESTIONS = 11


def opened(folder: Path) -> RunData:
    """Return a recorded run's rows."""
    with tempfile.TemporaryDirectory() as scratch:
        journal = Path(scratch) / "journal.sqlite"
        journal.write_bytes(lzma.decompress((folder / "journal.sqlite.xz").read_bytes()))
        return read_run(journal, manifest_in(folder).past_windows)


def noise(data: RunData) -> dict[tuple[str, str], np.ndarray]:
    """Return log ratios by load and quantity, between the two arms of a run."""
    found: dict[tuple[str, str], np.ndarray] = {}
    first, second = dict.fromkeys(part.window.arm for part in data.measured)
    for load in data.points:
        for quantity in TIMES:
            one, other = (data.at(load).by_question(arm, COMPARED[quantity]) for arm in (first, second))
            shared = sorted(name for name in one.keys() & other.keys() if one[name] > 0)
            if len(shared) >= MIN_QUESTIONS:
                ratios = np.array([other[name] / one[name] for name in shared])
                found[load, quantity] = np.log(ratios / np.median(ratios))
    return found


def alarms(times: list[np.ndarray], resamples: int, shift: float, tolerance: float) -> float:
    """Return the share of resamples in which any of a load's times fails."""
    rng, alpha, count = np.random.default_rng(0), FALSE_ALARMS / len(TIMES), 0
    for _ in range(resamples):
        verdicts = []
        for ratios in times:
            drawn = rng.choice(ratios, len(ratios)) * rng.choice((-1, 1), len(ratios))
            names = [str(number) for number in range(len(drawn))]
            after = dict(zip(names, ((1 + shift) * np.exp(drawn)).tolist(), strict=True))
            verdicts.append(judged(bounds(dict.fromkeys(names, 1.0), after, alpha), tolerance))
        count += "fail" in verdicts
    return count / resamples


def main() -> int:
    """Print a row for each load of each recorded run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--resamples", type=int, default=10_000)
    given = parser.parse_args()
    print("| run, load | questions | alarms at tolerance 0 | at 3 % | +5 % found at 3 % |\n|---|---|---|---|---|")
    worst = 0.0
    for journal in sorted(RECORDINGS.glob("*/runs/*-concurrency/journal.sqlite.xz")):
        found = noise(opened(journal.parent))
        for place in dict.fromkeys(name for name, _ in found):
            times = [ratios for (name, _), ratios in found.items() if name == place]
            edge, usual = (alarms(times, given.resamples, 0.0, tolerance) for tolerance in (0.0, TOLERANCE))
            power = alarms(times, given.resamples, SLOWER, TOLERANCE)
            worst = max(worst, edge)
            title = f"{journal.parents[2].name} {journal.parent.name}, {place}"
            print(f"| {title} | {len(times[0])} | {edge:.2%} | {usual:.2%} | {power:.1%} |", flush=True)
    return int(worst > FALSE_ALARMS)


if __name__ == "__main__":
    sys.exit(main())
