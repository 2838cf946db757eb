"""Measure how often each analysis finds what is there, and how often what is not: power, false findings, coverage.

Usage: python benchmarks/analysis.py [data sets a row]
"""

from __future__ import annotations

import platform
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import bootstrap, norm

from exporter.agent.busy import BusySeconds
from workload.analysis.overlap import GENERATION, RETRIEVAL, Span, activities
from workload.statistics.curvature import power, quadratic_share
from workload.statistics.growth import fit_growth
from workload.statistics.percentiles import percentile
from workload.statistics.throughput import Level, efficiencies
from workload.statistics.usl import fit_usl
from workload.statistics.wall import is_wall, slope_ratio
from workload.theory.eviction import hashed, replay, smallest_pool
from workload.theory.reuse_bound import PrefixIndex
from workload.theory.structure import AgentCall, common_prefix, reuse_structure, shared_prefixes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DATA_SETS = 200
LARGEST_TOKENS = 8_192
# A sweep of twelve lengths with five calls each; request times spread by 20 %.
LENGTHS, CALLS_A_LENGTH = 12, 5
SPREAD = 0.2
TRUTHS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "constant": lambda u: 0.3 + 0 * u,
    "linear": lambda u: 0.02 + 0.3 * u,
    "12.6 % curvature": lambda u: 0.02 + 0.3 * u * (1 + 0.126 * u),
    "133 % curvature": lambda u: 0.02 + 0.3 * u * (1 + 1.33 * u),
    "hinge, slope x 1.5": lambda u: 0.02 + 0.3 * u + 0.15 * np.maximum(u - 0.5, 0),
}


def sweep(
    truth: str, noise: float, rng: np.random.Generator, *, grows: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (tokens, seconds) of a controlled sweep; noise is a share of the mean time, or of each time."""
    tokens = np.repeat(np.linspace(256, LARGEST_TOKENS, LENGTHS), CALLS_A_LENGTH)
    seconds = TRUTHS[truth](tokens / LARGEST_TOKENS)
    return tokens, seconds + rng.standard_normal(len(tokens)) * noise * (seconds if grows else seconds.mean())


def growth(data_sets: int, rng: np.random.Generator) -> None:
    """Print what is chosen and found for planted shapes."""
    print("\nGrowth: 60 calls, 256 to 8,192 tokens. Superlinear: the CI of the quadratic share lies above 0.")
    print(f"{'truth':<20} {'noise':>12} {'chosen':<42} {'superlinear':>11} {'power()':>8} {'wall':>6}")
    for truth in TRUTHS:
        for noise, grows in ((0.02, False), (0.02, True), (0.10, False)):
            chosen: Counter[str] = Counter()
            superlinear, walls = 0, 0
            for index in range(data_sets):
                tokens, seconds = sweep(truth, noise, rng, grows=grows)
                found = fit_growth(tokens, seconds)
                chosen[found.chosen.shape] += 1
                superlinear += quadratic_share(tokens, seconds, index, 399).is_superlinear
                if found.chosen.shape == "hinge":
                    walls += is_wall(found, slope_ratio(tokens, seconds, index, 399))
            planted = {"linear": 0.0, "12.6 % curvature": 0.126, "133 % curvature": 1.33}.get(truth)
            stated = f"{power(tokens, seconds, planted):.0%}" if planted is not None else "-"
            kinds = ", ".join(f"{name} {count / data_sets:.0%}" for name, count in chosen.most_common())
            label = f"{noise:.0%} {'of each' if grows else 'of mean'}"
            print(
                f"{truth:<20} {label:>12} {kinds:<42} {superlinear / data_sets:>11.1%} {stated:>8}"
                f" {walls / data_sets:>6.1%}"
            )


def tails(data_sets: int, rng: np.random.Generator) -> None:
    """Print the coverage of percentile intervals, and that of the bootstrap, which gives one for any n."""
    print("\nPercentiles: lognormal values. How often the 95 % CI holds the true percentile")
    print(f"{'p':>5} {'n':>6} {'order statistics':>17} {'bootstrap':>10}")
    for p, n in ((0.95, 20), (0.95, 59), (0.95, 300), (0.99, 20), (0.99, 299), (0.99, 1_000)):
        truth = float(np.exp(norm.ppf(p)))
        ours, theirs = [], []
        for _ in range(data_sets):
            values = rng.lognormal(size=n)
            found = percentile(values, p)
            if found["ci"]:
                ours.append(found["ci"][0] <= truth <= found["ci"][1])
            drawn = bootstrap((values,), partial(np.quantile, q=p), n_resamples=399, method="percentile", rng=rng)
            theirs.append(drawn.confidence_interval.low <= truth <= drawn.confidence_interval.high)
        print(f"{p:>5} {n:>6,} {f'{np.mean(ours):.1%}' if ours else 'no CI':>17} {np.mean(theirs):>10.1%}")


def closed_loop(concurrency: int, requests: int, mean_seconds: float, rng: np.random.Generator) -> Level:
    """Return a level whose requests take lognormal time."""
    seconds = mean_seconds * rng.lognormal(-(SPREAD**2) / 2, SPREAD, requests)
    return Level(concurrency, seconds, np.ones(requests))


def scaling(data_sets: int, rng: np.random.Generator) -> None:
    """Print the coverage of efficiency and of the scalability law's parameters."""
    print("\nScaling: efficiency 0.8 at concurrency 4. How often its 95 % CI holds it, and how wide it is")
    for requests in (6, 10, 20, 60, 300):
        found = [
            efficiencies([closed_loop(1, requests, 2.0, rng), closed_loop(4, requests, 2.5, rng)])[1]["ci"]
            for _ in range(data_sets)
        ]
        widths = [high - low for low, high in filter(None, found)]
        held = np.mean([low <= 0.8 <= high for low, high in filter(None, found)])
        print(f"{requests:>6} requests a level: {held:.1%}, width {np.median(widths):.3f}")
    print("USL, 60 requests at 1, 2, 4, 8, 16, 32. How often each 95 % CI holds the truth; CI of coherence above 0")
    for contention, coherence in ((0.05, 0.002), (0.05, 0.0), (0.0, 0.0)):
        laws = []
        for index in range(data_sets):
            levels = [
                closed_loop(n, 60, 1 + contention * (n - 1) + coherence * n * (n - 1), rng)
                for n in (1, 2, 4, 8, 16, 32)
            ]
            laws.append(fit_usl(levels, index).law)
        rows = [
            (
                law["contention_ci"][0] <= contention <= (law["contention_ci"][1] or np.inf),
                law["coherence_ci"][0] <= coherence <= (law["coherence_ci"][1] or np.inf),
                law["coherence_ci"][0] > 0,
            )
            for law in laws
            if law
        ]
        first, second, above = np.mean(rows, axis=0)
        print(f"contention {contention}, coherence {coherence}: {first:.1%}, {second:.1%}; above 0 in {above:.1%}")


def overlaps(data_sets: int, rng: np.random.Generator) -> None:
    """Print the largest difference between spans and the live counter over the same events."""
    worst = 0.0
    for _ in range(data_sets):
        starts = rng.uniform(0, 90, 40)
        spans = [
            Span((RETRIEVAL, GENERATION)[index % 2], start, start + seconds)
            for index, (start, seconds) in enumerate(zip(starts, rng.exponential(3, 40), strict=True))
        ]
        counted, found = live(spans), activities(spans, (0.0, 200.0))
        worst = max(worst, *(abs(counted[name] - found[name]) for name in found))
    print(f"\nOverlap: {data_sets} random loads of 40 spans; spans and live counter differ by {worst:.1e} s at most")


def live(spans: list[Span]) -> dict[str, float]:
    """Return what the exporter's counter says after the same events, from 0 to 200 s."""
    now = 0.0
    busy = BusySeconds(lambda: now)
    open_blocks = {}
    events = [(span.start, 1, index) for index, span in enumerate(spans)]
    events += [(span.end, 0, index) for index, span in enumerate(spans)]
    with busy.accounting():
        for instant, is_start, index in sorted(events):
            now = instant
            if is_start:
                open_blocks[index] = busy.busy(RETRIEVAL if spans[index].resource == RETRIEVAL else GENERATION)
                open_blocks[index].__enter__()
            else:
                open_blocks.pop(index).__exit__(None, None, None)
        now = 200.0
    return busy.seconds()


def append_only(questions: int, rng: np.random.Generator) -> list[AgentCall]:
    """Return the calls of an agent whose prompt is one preamble and a log that only grows."""
    preamble = rng.integers(0, 49_152, 120).tolist()
    calls = []
    for question in range(questions):
        log = preamble + rng.integers(0, 49_152, 30).tolist()
        for hop in (1, 2, 3):
            for node in ("decompose", "extract_clues", "decide"):
                log = log + rng.integers(0, 49_152, 150).tolist()
                output = rng.integers(0, 49_152, 40).tolist()
                calls.append(AgentCall(str(question), node, hop, log, output))
                log = log + output
    return calls


def reuse(rng: np.random.Generator) -> None:
    """Print the bound beside the sum over pairs, and what a pool that is too small leaves of it."""
    calls = append_only(20, rng)
    tokens = sum(len(call.prompt) for call in calls)
    picture = shared_prefixes(calls)
    print(f"\nReuse: append-only layout, 20 questions of 9 calls, {tokens:,} prompt tokens")
    pairs = sum(common(first, second) for index, second in enumerate(calls) for first in calls[:index])
    print(f"common prefix summed over all {picture.pairs.sum():,} pairs (wrong): {pairs / tokens:.0%}")
    for block_size in (1, 16, 32, 64, 128, 256):
        total, _ = reuse_structure(calls, block_size)
        within, across = total["within_request_tokens"] / tokens, total["across_requests_tokens"] / tokens
        print(f"block {block_size:>3}: bound {total['share']:.1%}, within a request {within:.1%}, across {across:.1%}")
    blocks = [hashed(call.prompt, call.output, 16) for call in calls]
    index = PrefixIndex(16)
    bound = []
    for call in calls:
        bound.append(index.observe(call.prompt))
        index.observe_output(call.prompt, call.output)
    start = time.perf_counter()
    endless = replay(blocks, 16).reusable_tokens
    seconds = time.perf_counter() - start
    different = sum(one != other for one, other in zip(endless, bound, strict=True))
    print(f"endless pool: {different} of {len(calls)} calls differ from the bound; replayed in {seconds * 1e3:.0f} ms")
    # Four questions at a time, call by call: what one leaves behind must outlive the calls of three others.
    turns = [blocks[first + 9 * lane + turn] for first in range(0, 180, 36) for turn in range(9) for lane in range(4)]
    least = smallest_pool(turns, 16)
    for pool in (least, least * 2, least * 3, least * 4, least * 8):
        found = replay(turns, 16, pool)
        share = sum(found.reusable_tokens) / tokens
        print(
            f"four questions in turn, pool of {pool:>3}: {share:.1%} reusable, {found.evicted_blocks:,} blocks evicted"
        )


def common(first: AgentCall, second: AgentCall) -> int:
    """Return the length of the common prefix of two prompts."""
    return common_prefix(np.asarray(first.prompt), np.asarray(second.prompt))


def main() -> None:
    """Print the tables."""
    data_sets = int(sys.argv[1]) if len(sys.argv) > 1 else DATA_SETS
    rng = np.random.default_rng(0)
    print(f"Python {platform.python_version()}, numpy {np.__version__}, {data_sets} data sets a row")
    growth(data_sets, rng)
    tails(data_sets, rng)
    scaling(data_sets, rng)
    overlaps(data_sets, rng)
    reuse(rng)


if __name__ == "__main__":
    main()
