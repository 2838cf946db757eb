"""The curve of all pool sizes beside a replay of each pool."""

from __future__ import annotations

from random import Random

import pytest

from workload.theory.eviction import Call, hashed, replay, smallest_pool
from workload.theory.pool_curve import pool_curve

SIZE = 8


def conversations(seed: int, in_flight: int) -> list[Call]:
    """Return calls of growing logs with a shared beginning; several of them overlap."""
    random = Random(seed)
    shared = [random.randrange(99) for _ in range(3 * SIZE)]
    logs: dict[int, list[int]] = {}
    free = [0.0] * in_flight
    calls = []
    for _ in range(50):
        question = random.randrange(10)
        log = logs.setdefault(question, [*shared, *[question] * random.randrange(1, 2 * SIZE)])
        prompt = [*log, *(random.randrange(999) for _ in range(random.randrange(1, 3 * SIZE)))]
        output = [random.randrange(999) for _ in range(random.randrange(1, 2 * SIZE))]
        worker = min(range(in_flight), key=free.__getitem__)
        begun, free[worker] = free[worker] + 1e-6, free[worker] + random.random() + 0.1
        calls.append(hashed(prompt, output, SIZE, span=(begun, free[worker]) if in_flight > 1 else None))
        logs[question] = [*prompt, *output] if len(prompt) < 20 * SIZE else prompt[: 4 * SIZE]
    return sorted(calls, key=lambda call: call.span[0] if call.span else 0)


def share(calls: list[Call], pool: int | None) -> float:
    """Return the reusable share by vLLM's own queue of free blocks."""
    return sum(replay(calls, SIZE, pool).reusable_tokens) / sum(call.prompt_tokens for call in calls)


@pytest.mark.parametrize("seed", range(3))
def test_one_pass_equals_a_replay_of_each_pool_within_one_block(seed: int) -> None:
    """Of calls one after the other: the curve lies between the pools of one block less and one more."""
    calls = conversations(seed, 1)
    curve = pool_curve([calls], SIZE)
    assert curve.smallest == smallest_pool(calls, SIZE)
    shares = [share(calls, pool) for pool in range(curve.smallest, curve.largest + 3)]
    for place in range(1, len(shares) - 1):
        found = curve.share(curve.smallest + place)
        assert found is not None
        assert shares[place - 1] - 1e-9 <= found <= shares[place + 1] + 1e-9
    assert curve.share(curve.largest) == pytest.approx(share(calls, None))
    assert shares[0] < shares[-1], "the pools must differ"


def test_calls_that_overlap_are_within_a_point_on_average() -> None:
    """Where they need not wait: waiting, which the curve leaves out, begins below."""
    differences = []
    for seed in range(3):
        calls = conversations(seed, 3)
        curve = pool_curve([calls], SIZE)
        for pool in range(3 * smallest_pool(calls, SIZE), curve.largest + 1):
            found = curve.share(pool)
            assert found is not None
            differences.append(abs(found - share(calls, pool)))
    assert len(differences) > 50
    assert sum(differences) / len(differences) < 0.01


def test_a_pool_that_is_too_small_and_calls_without_tokens_have_no_share() -> None:
    """A share of nothing is absent."""
    calls = [hashed([1] * 20, [2] * 4, SIZE)]
    assert pool_curve([calls], SIZE).share(smallest_pool(calls, SIZE) - 1) is None
    assert pool_curve([calls], SIZE).share(100) == 0
    assert pool_curve([], SIZE).share(100) is None


def test_each_group_begins_with_an_empty_pool() -> None:
    """Groups have salts of their own: no call finds the blocks of another group."""
    calls = [hashed([1] * 20, [2] * 4, SIZE)]
    assert pool_curve([calls, calls], SIZE).needed == ()
    assert len(pool_curve([calls * 2], SIZE).needed) == 2
