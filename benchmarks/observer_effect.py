"""Measure what watching costs: decode inter-token latency of a vLLM with the exporter on and off.

Usage: python benchmarks/observer_effect.py --url http://127.0.0.1:8000 [--pairs 10] [--replay FILE]

Blocks of requests run in ABBA order: exporter off, on, on, off. "On" is the exporter as its command line runs it,
scraped every second on both pages; without a GPU it samples a recording, so that the sampler works as hard. A block's
figure is the mean time between the tokens of its streams; the figure of a pair is on divided by off. The 95 % interval
is a bootstrap over pairs. An interval that holds 1 means: no effect found, down to the interval's width.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import requests
from machine import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDING = Path(__file__).parents[1] / "tests" / "fixtures" / "h200" / "prefix_caching_on" / "nvml_10ms.csv"
EXPORTER = "127.0.0.1:18330"
PROMPT = "Write the numbers from one to five hundred in words, one after another, without a comment."
RESAMPLES = 10_000
SETTLE_SECONDS = 2.0  # the exporter's start is no part of its running cost


def stream(url: str, model: str, tokens: int, seed: int) -> float:
    """Return the mean seconds between the tokens of one streamed completion of exactly `tokens` tokens.

    The engine may send several tokens at once, so single gaps mean little; the mean over a stream does not change.
    """
    body = {"model": model, "prompt": f"{seed}. {PROMPT}", "max_tokens": tokens, "stream": True}
    with requests.post(
        f"{url}/v1/completions", json={**body, "ignore_eos": True, "temperature": 0}, stream=True, timeout=300
    ) as answer:
        answer.raise_for_status()
        chunks = (line for line in answer.iter_lines() if line.startswith(b"data: {"))
        times = [time.perf_counter() for line in chunks if json.loads(line[6:]).get("choices")]
    assert len(times) > 2, "the stream held no tokens"
    return (times[-1] - times[0]) / (tokens - 1)


def run_block(arguments: argparse.Namespace, model: str, seed: int) -> float:
    """Return the mean inter-token latency in ms of one block; equal seeds make equal requests."""
    with ThreadPoolExecutor(arguments.concurrency) as pool:
        seeds = range(seed * 1000, seed * 1000 + arguments.concurrency * arguments.rounds)
        means = pool.map(lambda each: stream(arguments.url, model, arguments.tokens, each), seeds)
        return 1000 * fmean(means)


@contextmanager
def exporter_running(arguments: argparse.Namespace) -> Iterator[None]:
    """Run the exporter and scrape it every second."""
    argv = [sys.executable, "-m", "exporter.cli", "--web.listen-address", EXPORTER, "--log.level", "error"]
    argv += ["--collector.processes.engine-port", arguments.url.rpartition(":")[2].rstrip("/")]
    argv += ["--nvml.replay-file", str(arguments.replay)] if arguments.replay else []
    done = threading.Event()

    def scrape() -> None:
        session = requests.Session()
        while not done.wait(1.0):
            for page in ("/metrics", "/metrics/timeline"):
                session.get(f"http://{EXPORTER}{page}", timeout=10)

    with subprocess.Popen(argv) as process:
        scraper = threading.Thread(target=scrape)
        try:
            wait_until_up()
            scraper.start()
            yield
        finally:
            done.set()
            if scraper.ident:
                scraper.join()
            process.terminate()
            process.wait(10)


def wait_until_up() -> None:
    """Wait until the exporter answers."""
    end = time.monotonic() + 60
    while True:
        try:
            requests.get(f"http://{EXPORTER}/-/healthy", timeout=5).raise_for_status()
        except requests.ConnectionError:
            assert time.monotonic() < end, "the exporter did not start"
            time.sleep(0.2)
        else:
            return


def measure(arguments: argparse.Namespace, model: str) -> list[tuple[float, float]]:
    """Return (off, on) inter-token latencies in ms of each pair, from ABBA blocks."""
    pairs = []
    for number in range(arguments.pairs):
        order = (False, True) if number % 2 == 0 else (True, False)
        taken: dict[bool, float] = {}
        for is_on in order:
            with exporter_running(arguments) if is_on else nullcontext():
                time.sleep(SETTLE_SECONDS)
                taken[is_on] = run_block(arguments, model, number)
        pairs.append((taken[False], taken[True]))
        print(
            f"pair {number + 1:>2}: off {taken[False]:.3f} ms, on {taken[True]:.3f} ms, on / off {ratio(pairs[-1]):.4f}"
        )
    return pairs


def ratio(pair: tuple[float, float]) -> float:
    """Return on divided by off."""
    return pair[1] / pair[0]


def interval(ratios: list[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean ratio over pairs."""
    draw = random.Random(seed)
    means = sorted(fmean(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def main() -> None:
    """Print the pairs and the interval."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True, help="the vLLM server, such as http://127.0.0.1:8000")
    parser.add_argument("--pairs", type=int, default=10, help="an even number keeps the order balanced")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="requests per slot in a block")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--replay", type=Path, default=RECORDING, help="sampled in place of a GPU; '' for the real one")
    arguments = parser.parse_args()
    arguments.url = arguments.url.rstrip("/")
    arguments.replay = arguments.replay if str(arguments.replay) != "." else None
    model = requests.get(f"{arguments.url}/v1/models", timeout=30).json()["data"][0]["id"]
    engine = requests.get(f"{arguments.url}/version", timeout=30).json()["version"]
    print(f"{describe('prometheus-client', 'uvicorn')}, vLLM {engine}, {model}")
    block = f"{arguments.concurrency} x {arguments.rounds} requests of {arguments.tokens} tokens"
    print(f"{arguments.pairs} pairs in ABBA order, {block} a block\n")
    run_block(arguments, model, 999)
    pairs = measure(arguments, model)
    low, high = interval([ratio(pair) for pair in pairs])
    off, on = (median(column) for column in zip(*pairs, strict=True))
    print(f"\n{'exporter':<10} {'inter-token latency, median of blocks':>38}")
    print(f"{'off':<10} {off:>35.3f} ms\n{'on':<10} {on:>35.3f} ms")
    print(f"\non / off = {fmean(map(ratio, pairs)):.4f}, 95 % CI {low:.4f} to {high:.4f}, n = {len(pairs)} pairs")
    print("no effect found" if low <= 1 <= high else "an effect: the interval excludes 1")


if __name__ == "__main__":
    main()
