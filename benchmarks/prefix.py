"""Measure the speed of the reuse bound on one core, by block size.

Usage: python benchmarks/prefix.py
"""

from __future__ import annotations

import platform
import random
import time

from workload.theory.reuse_bound import PrefixIndex

PROMPTS = 400
TOKENS_A_PROMPT = 2_000
SHARED_TOKENS = 800
ROUNDS = 5


def prompts(seed: int = 0) -> list[list[int]]:
    """Return prompts whose first tokens are shared in groups of ten, as in an agent's calls."""
    random_ = random.Random(seed)
    made = []
    for index in range(PROMPTS):
        if index % 10 == 0:
            shared = [random_.randrange(49_152) for _ in range(SHARED_TOKENS)]
        made.append(shared + [random_.randrange(49_152) for _ in range(TOKENS_A_PROMPT - SHARED_TOKENS)])
    return made


def measure(block_size: int, calls: list[list[int]]) -> tuple[float, float]:
    """Return (million tokens a second, reusable share) of the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        index = PrefixIndex(block_size)
        start = time.perf_counter()
        reusable = sum(index.observe(call) for call in calls)
        best = min(best, time.perf_counter() - start)
    total = sum(map(len, calls))
    return total / best / 1e6, reusable / total


def main() -> None:
    """Print the table."""
    calls = prompts()
    print(f"Python {platform.python_version()}, {PROMPTS} prompts of {TOKENS_A_PROMPT} tokens, best of {ROUNDS}")
    print(f"{'block size':>10} {'Mtokens/s':>10} {'reusable':>9}")
    for block_size in (1, 16, 32, 64, 128, 256):
        speed, share = measure(block_size, calls)
        print(f"{block_size:>10} {speed:>10.1f} {share:>9.1%}")


if __name__ == "__main__":
    main()
