"""Measure what a tap adds to streams: time to first token and delay of a chunk, beside the same streams without it.

Usage: python benchmarks/tap.py [--streams 64] [--rate 20] [--rounds 5] [--seconds 8]

A paced server writes into each chunk when it was sent; server, tap and client are three processes. Each of the streams
at a time is followed by another one after 40 chunks. A round measures directly, through the tap, and directly again, so
that other work on the machine affects both alike: what the tap adds is the difference to the first, and two direct
measurements differ by the noise. Quantiles are taken in each measurement; the table has medians over the rounds. Then
clients leave in mid-stream, and the server notes when it sees them go. On a machine that is busy with other work run it
under `chrt --fifo 10`. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import uvloop
from aiohttp import web
from machine import describe

from workload.tap.standalone import open_tap

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

BARS_MS = {50: 1.0, 99: 3.0}
CANCEL_BAR_MS = 100.0
METRICS = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",num_gpu_blocks="64"} 1.0\n'
CHUNKS = 40
PROMPT = list(range(1000, 1500))
QUANTILES = tuple(BARS_MS)


async def stream(request: web.Request) -> web.StreamResponse:
    """Send chunks as vLLM does, at the rate that the request asks for, each with the instant at which it was sent."""
    body = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    start = time.monotonic()
    try:
        for number in range(body["max_tokens"]):
            await asyncio.sleep(start + (number + 1) / body["rate"] - time.monotonic())
            last = number + 1 == body["max_tokens"]
            choice = {
                "index": 0,
                "delta": {"content": str(time.monotonic())},
                "finish_reason": "stop" if last else None,
            }
            ids = {"prompt_token_ids": PROMPT} if not number else {}
            chunk = {"id": "chatcmpl-1", "choices": [{**choice, "logprobs": None, "token_ids": [number]}], **ids}
            await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    except (ConnectionError, asyncio.CancelledError):
        request.app["left"].put(time.monotonic())
        raise
    usage = {"prompt_tokens": len(PROMPT), "completion_tokens": body["max_tokens"]}
    await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
    await response.write_eof()
    return response


def serve(ready: Queue[str], left: Queue[float]) -> None:
    """Serve streams, and the facts that a tap asks for."""

    async def run() -> None:
        app = web.Application()
        app["left"] = left
        app.router.add_post("/v1/chat/completions", stream)
        answers: dict[str, Any] = {"/version": {"version": "0.32.0"}, "/v1/models": {"data": [{"id": "stub"}]}}
        for path, found in answers.items():
            app.router.add_get(path, lambda _, found=found: _json(found))
        app.router.add_get("/metrics", lambda _: _text(METRICS))
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.put(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.Event().wait()

    uvloop.run(run())


async def _json(found: Any) -> web.Response:
    return web.json_response(found)


async def _text(found: str) -> web.Response:
    return web.Response(text=found)


def tap(upstream: str, ready: Queue[str]) -> None:
    """Serve a tap."""
    with open_tap(upstream, port=0, prompts=None) as running:
        ready.put(running.url)
        signal.pause()


async def measure(url: str, streams: int, rate: int, seconds: float) -> tuple[list[float], list[float]]:
    """Return the delays of first chunks from their due time, and of all chunks from their sending, in milliseconds."""
    firsts: list[float] = []
    delays: list[float] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        body = {"messages": [], "stream": True, "max_tokens": CHUNKS, "rate": rate}
        sent = time.monotonic()
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            is_first = True
            async for line in answer.content:
                now = time.monotonic()
                if not line.startswith(b'data: {"id"'):
                    continue
                at = float(json.loads(line[6:])["choices"][0]["delta"]["content"])
                delays.append(1000 * (now - at))
                if is_first:
                    firsts.append(1000 * (now - sent - 1 / rate))
                    is_first = False

    async def work(session: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.random() * CHUNKS / rate)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await ask(session)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), trust_env=False) as session:
        await asyncio.gather(*(work(session) for _ in range(streams)))
    return firsts, delays


async def leave(url: str, left: Queue[float], times: int) -> list[float]:
    """Return how long the server takes to see a client that leaves in mid-stream, in milliseconds."""
    found = []
    async with aiohttp.ClientSession(trust_env=False) as session:
        for _ in range(times):
            body = {"messages": [], "stream": True, "max_tokens": 10_000, "rate": 20}
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                await answer.content.readline()
                answer.close()
                at = time.monotonic()
            found.append(1000 * (await asyncio.to_thread(left.get, timeout=30) - at))
    return found


def compare(urls: tuple[str, str], given: argparse.Namespace) -> bool:
    """Measure the rounds, print the table, and return whether every bar is kept."""
    direct, tapped = urls
    rounds = []
    for number in range(given.rounds):
        row = []
        for url in (direct, tapped, direct):
            kinds = uvloop.run(measure(url, given.streams, given.rate, given.seconds))
            row.append([[float(np.quantile(kind, level / 100)) for level in QUANTILES] for kind in kinds])
        rounds.append(row)
        print(f"round {number + 1}: {row}", flush=True)
    found = np.array(rounds)  # rounds x (direct, tapped, direct) x (first, chunk) x quantiles
    added = np.median(found[:, 1] - found[:, 0], axis=0)
    noise = np.median(np.abs(found[:, 2] - found[:, 0]), axis=0)
    print(
        "| delay of | quantile | direct ms | tapped ms | added ms | two direct differ by ms | beyond it ms | bar ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    keeps = True
    for kind, name in enumerate(("the first token", "a chunk")):
        for place, level in enumerate(QUANTILES):
            before, after = (float(np.median(found[:, side, kind, place])) for side in (0, 1))
            more, apart = added[kind, place], noise[kind, place]
            values = " | ".join(f"{value:.2f}" for value in (before, after, more, apart, more - apart, BARS_MS[level]))
            print(f"| {name} | p{level} | {values} |")
            keeps &= bool(more - apart <= BARS_MS[level])
    return keeps


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rate", type=int, default=20, help="chunks a second in each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a stream")
    given = parser.parse_args()
    print(describe("aiohttp", "uvloop"), flush=True)
    spawn = multiprocessing.get_context("spawn")
    ready, left = spawn.Queue(), spawn.Queue()
    processes = [spawn.Process(target=serve, args=(ready, left), daemon=True)]
    processes[0].start()
    direct = ready.get(timeout=60)
    processes.append(spawn.Process(target=tap, args=(direct, ready), daemon=True))
    processes[1].start()
    tapped = ready.get(timeout=120)
    try:
        keeps = compare((direct, tapped), given)
        gone = {name: uvloop.run(leave(url, left, 20)) for name, url in (("direct", direct), ("tapped", tapped))}
        for name, values in gone.items():
            print(f"a client that leaves, {name}: median {np.median(values):.1f} ms, longest {max(values):.1f} ms")
        keeps &= max(gone["tapped"]) <= CANCEL_BAR_MS
    finally:
        for process in processes:
            process.terminate()
    print("Every bar is kept." if keeps else "A bar is missed.")
    return 0 if keeps else 1


if __name__ == "__main__":
    sys.exit(main())
