"""Measure our client beside guidellm: CPU and highest rate of single calls, and how late an open loop sends.

Usage: python benchmarks/client.py --guidellm PATH [--engine]

Both send the same prompts to the same endpoint: a stub in a process of its own that answers after 100 ms, and with
--engine the packaged CPU engine too. Loads alternate: ours, guidellm, guidellm, ours. Our client records what it does
in a run: metrics, journal, acknowledgement on disk. guidellm's start takes seconds of CPU, so its CPU per call is the
difference between a long and a short load; ours is measured around the load. Of some numbers of guidellm's worker
processes the fastest is taken. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx
import uvloop
from guidellm_client import NUMBER, GuideLlm, Sample
from machine import describe
from rich.console import Console

from tests.stubs.agent import bench, client_of
from workload.agent.llm import Llm
from workload.engine.install import install
from workload.engine.launcher import ProcessLauncher
from workload.engine.profile import PROFILES
from workload.experiments.arrivals import poisson
from workload.harness.loops import Tally, closed_loop, open_loop
from workload.harness.process_memory import settled_heap
from workload.paths import cache_dir
from workload.record.journal import Journal, read
from workload.services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.engine.install import EngineInstallation
    from workload.engine.launcher import RunningEngine

LAG_BAR_SECONDS = 0.005
STUB_SECONDS, STUB_TOKENS = 0.1, 16
STREAMS = 64
SHORT_CALLS = 200
WORKERS = (4, 10)
ENGINE_STREAMS, ENGINE_TOKENS = 4, 32
MAX_IN_FLIGHT = 1024
PLACE = {"arm": "client", "block": 0, "phase": "single", "segment": 0, "attempt": 1}


@dataclass(frozen=True)
class Ours:
    """The workload's client with everything that records in a run."""

    folder: Path

    def load(self, url: str, model: str, prompts: list[str], tokens: int, arrivals: tuple[float, ...] = ()) -> Sample:
        """Send each prompt once, in a closed loop of `STREAMS`, or at its arrival.

        Raises:
            SystemExit: not every call succeeded.
        """
        with settled_heap():  # as in a run
            return uvloop.run(self._load(url, model, prompts, tokens, arrivals))

    async def _load(self, url: str, model: str, prompts: list[str], tokens: int, arrivals: tuple[float, ...]) -> Sample:
        streams = ENGINE_STREAMS if tokens == ENGINE_TOKENS else STREAMS
        path = self.folder / f"journal-{time.monotonic_ns()}.sqlite"
        tally, targets = Tally(len(prompts)), {}
        with Journal(path, {"benchmark": "client"}) as journal:
            meter = bench(journal=journal).meter
            async with client_of(url, 120) as client:
                llm = Llm(client, model)

                async def ask(prompt: str, worker: str, intended: float | None = None) -> None:
                    call = meter.question(worker, "single", intended=intended)
                    targets[NUMBER.findall(prompt)[0]] = call.question.started + call.anchor
                    call.open({**PLACE, "question_id": prompt[:8]})
                    await llm.compute(call, "generate", 1, [{"role": "user", "content": prompt}], tokens)
                    call.close("ok", "done", 0, {})

                async def ended(_: str | None) -> None:
                    await meter.acknowledge()

                start, cpu = time.perf_counter(), time.process_time()
                if arrivals:
                    await open_loop(ask, prompts, arrivals, in_flight=MAX_IN_FLIGHT, tally=tally, ended=ended)
                else:
                    await closed_loop(ask, prompts, streams, tally, ended)
                cpu, seconds = time.process_time() - cpu, time.perf_counter() - start
        if tally.ok != len(prompts):
            raise SystemExit(f"ours: {tally.as_dict()}")
        calls = read(path, "llm_call")
        return Sample(
            requests=len(calls),
            seconds=seconds,
            cpu_seconds=cpu,
            latencies=tuple(call["duration_seconds"] for call in calls),
            ttfts=tuple(call["ttft_seconds"] for call in calls),
            targets=targets,
        )


@contextmanager
def stub() -> Iterator[str]:
    """Start the stub as a process and yield its URL."""
    script = Path(__file__).with_name("latency_stub.py")
    command = [sys.executable, script, "--seconds", str(STUB_SECONDS), "--tokens", str(STUB_TOKENS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


async def ceiling(url: str, streams: int = 512, seconds: float = 4.0) -> float:
    """Return the calls a second that the stub serves to clients who do not look at its answers."""
    body = b'{"messages": [{"role": "user", "content": "?"}], "stream": true}'
    request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    port, until, served = int(url.rpartition(":")[2]), time.perf_counter() + seconds, 0

    async def send() -> None:
        nonlocal served
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            writer.write(request)
            await reader.readuntil(b"\r\n0\r\n\r\n")
            served += 1
        writer.close()

    await asyncio.gather(*(send() for _ in range(streams)))
    return served / seconds


def prompts_of(number: int, what: str) -> list[str]:
    """Return distinct prompts, of about 40 tokens."""
    return [f"#{index}# {what} " + "Say what comes to your mind, in a few words. " * 3 for index in range(number)]


def cpu_ms(long: Sample, short: Sample | None = None) -> float:
    """Return CPU time per call in ms; with a shorter load, of what the longer one took more."""
    if short is None:
        return 1e3 * long.cpu_seconds / long.requests
    return 1e3 * (long.cpu_seconds - short.cpu_seconds) / (long.requests - short.requests)


def mean(values: list[float]) -> float:
    """Return the mean of the rounds."""
    return statistics.fmean(values)


def row(title: str, ours: list[float], theirs: list[float], digits: int, bar: str = "") -> str:
    """Return a line of the table: the mean of each client's rounds, and the rounds."""
    cells = [
        f"{mean(values):.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"
        for values in (ours, theirs)
    ]
    return f"| {title} | {cells[0]} | {cells[1]} | {bar} |"


def lags_ms(url: str, sample: Sample) -> list[float]:
    """Return how much later than intended each call was at the stub, in ms, ascending.

    The first second is left out: it opens the connections, as a run's warm-up does.
    """
    arrivals = httpx.get(f"{url}/arrivals", trust_env=False).json()
    begin = min(sample.targets.values()) + 1
    late = (arrivals[number] - target for number, target in sample.targets.items() if target >= begin)
    return sorted(1e3 * seconds for seconds in late)


def at(values: list[float], fraction: float) -> float:
    """Return a quantile of ascending values."""
    return values[min(len(values) - 1, int(fraction * len(values)))]


def fastest(executable: Path, folder: Path, tokenizer: Path) -> GuideLlm:
    """Return guidellm with the number of worker processes that brings it the highest rate here."""
    rates = {}
    with stub() as url:
        for workers in WORKERS:
            client = GuideLlm(executable, folder, tokenizer, workers)
            streams = {"kind": "concurrent", "streams": STREAMS}
            rates[client] = client.load(url, "stub", prompts_of(400, "Trial."), STUB_TOKENS, streams).rate
            print(f"guidellm with {workers} worker(s): {rates[client]:.0f} calls/s", flush=True)
    return max(rates, key=rates.__getitem__)


@contextmanager
def engine(installation: EngineInstallation) -> Iterator[RunningEngine]:
    """Start the packaged engine on a free port."""
    with tempfile.TemporaryDirectory() as logs:
        launcher = ProcessLauncher(installation, Path(logs), Console(stderr=True), free_port())
        with launcher.start(PROFILES["base"]) as running:
            yield running


def on_the_stub(ours: Ours, theirs: GuideLlm, calls: int, seconds: float) -> tuple[list[str], bool]:
    """Return the rows of the stub, and whether every bar was met."""
    with stub() as url:
        top = uvloop.run(ceiling(url))
        print(f"stub: {STUB_SECONDS * 1e3:.0f} ms, {STUB_TOKENS} tokens, serves at least {top:.0f} calls/s", flush=True)
        streams = {"kind": "concurrent", "streams": STREAMS}
        prompts, short = prompts_of(calls, "Closed."), prompts_of(SHORT_CALLS, "Short.")
        ours.load(url, "stub", short, STUB_TOKENS)
        quick = theirs.load(url, "stub", short, STUB_TOKENS, streams)
        closed: dict[str, list[Sample]] = {"ours": [], "theirs": []}
        for client in ("ours", "theirs", "theirs", "ours"):
            if client == "ours":
                closed[client].append(ours.load(url, "stub", prompts, STUB_TOKENS))
            else:
                closed[client].append(theirs.load(url, "stub", prompts, STUB_TOKENS, streams))
        own, other = closed["ours"], closed["theirs"]
        rates = [sample.rate for sample in own], [sample.rate for sample in other]
        cpus = [cpu_ms(sample) for sample in own], [cpu_ms(sample, quick) for sample in other]
        half = mean(rates[0]) / 2
        number = int(half * seconds)
        paced = prompts_of(number, "Open.")
        httpx.get(f"{url}/arrivals", trust_env=False)  # the stub forgets the closed loops
        mine = ours.load(url, "stub", paced, STUB_TOKENS, poisson(half, number, seed=0))
        my_lags = lags_ms(url, mine)
        other_open = theirs.load(url, "stub", paced, STUB_TOKENS, {"kind": "poisson", "rate": half})
        other_lags = lags_ms(url, other_open)
    rows = [
        row(f"highest rate, closed loop of {STREAMS}, calls/s", *rates, 0, "no lower"),
        row("CPU per call, ms", *cpus, 2, "no higher"),
        row("median latency there, ms", *([1e3 * s.latency for s in side] for side in (own, other)), 1),
        row(
            f"open loop at {half:.0f} calls/s: lateness at the stub, median, ms",
            [at(my_lags, 0.5)],
            [at(other_lags, 0.5)],
            2,
        ),
        row("lateness at the stub, p99, ms", [at(my_lags, 0.99)], [at(other_lags, 0.99)], 2, "ours < 5"),
        row("median latency there, ms", [1e3 * mine.latency], [1e3 * other_open.latency], 1),
    ]
    is_met = mean(rates[0]) >= mean(rates[1]) and mean(cpus[0]) <= mean(cpus[1])
    return rows, is_met and at(my_lags, 0.99) < LAG_BAR_SECONDS * 1e3


def on_the_engine(ours: Ours, theirs: GuideLlm, url: str, model: str, calls: int) -> list[str]:
    """Return the rows of a real engine, where the engine is the bottleneck: do both report the same?"""
    samples: dict[str, list[Sample]] = {"ours": [], "theirs": []}
    streams = {"kind": "concurrent", "streams": ENGINE_STREAMS}
    ours.load(url, model, prompts_of(ENGINE_STREAMS, "Warm."), ENGINE_TOKENS)
    for turn, client in enumerate(("ours", "theirs", "theirs", "ours")):
        prompts = prompts_of(calls, f"Turn {turn}.")
        if client == "ours":
            samples[client].append(ours.load(url, model, prompts, ENGINE_TOKENS))
        else:
            samples[client].append(theirs.load(url, model, prompts, ENGINE_TOKENS, streams))
    both = samples["ours"], samples["theirs"]
    return [
        row(f"engine, concurrency {ENGINE_STREAMS}: calls/s", *([s.rate for s in side] for side in both), 2),
        row("median latency, ms", *([1e3 * s.latency for s in side] for side in both), 0),
        row("median time to first token, ms", *([1e3 * statistics.median(s.ttfts) for s in side] for side in both), 0),
    ]


def main() -> int:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--guidellm", type=Path, required=True, help="its executable, in an environment of its own")
    parser.add_argument("--calls", type=int, default=1500, help="calls of a closed loop on the stub")
    parser.add_argument("--seconds", type=float, default=15, help="length of an open loop")
    parser.add_argument("--engine", action="store_true", help="measure on the packaged CPU engine too")
    parser.add_argument("--engine-calls", type=int, default=24)
    given = parser.parse_args()
    print(describe("openai", "aiohttp", "uvloop", "langgraph"), flush=True)
    installation = install(cache_dir(), Console(stderr=True))
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = Ours(Path(name)), fastest(given.guidellm, Path(name), installation.model)
        title = f"| | ours | guidellm {theirs.version()}, {theirs.workers} worker(s) | limit |\n|---|---|---|---|"
        rows, is_met = on_the_stub(ours, theirs, given.calls, given.seconds)
        print("\n".join([title, *rows]), flush=True)
        if given.engine:
            with engine(installation) as running:
                rows = on_the_engine(ours, theirs, running.endpoint, running.facts.model, given.engine_calls)
            print("\n".join(rows))
    return int(not is_met)


if __name__ == "__main__":
    sys.exit(main())
