"""Every arm answers every question, no block finds another place's cache warm, and drift cancels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from workload.experiment import Arm
from workload.harness.measurement import Measurement
from workload.harness.runner import Block, Reuse, blocks
from workload.record.history import NOTHING
from workload.record.results import WARM_UP
from workload.services.targets import ArmLabels

A, B, C = (Arm(name, "base") for name in "abc")
ABBA = (A, B, B, A)


def order_of(arms: tuple[Arm, ...], number: int, size: int | None) -> list[Block]:
    """Return the blocks over questions that are numbers."""
    return blocks(arms, cast("Any", list(range(number))), size)


@given(st.integers(1, 30), st.none() | st.integers(1, 40))
def test_each_place_answers_every_question_once(number: int, size: int | None) -> None:
    """However short the blocks are, the work is the same."""
    found = order_of(ABBA, number, size)
    assert [block.number for block in found] == list(range(len(found)))
    for cache, arm in enumerate(ABBA):
        mine = [block for block in found if block.cache == cache]
        assert {block.arm.name for block in mine} == {arm.name}
        assert [question for block in mine for question in block.questions] == list(range(number))


def test_without_a_size_each_place_is_one_block() -> None:
    """Where each block starts an engine, short blocks would be all starts."""
    assert [(block.arm.name, block.cache, len(block.questions)) for block in order_of((A, B), 5, None)] == [
        ("a", 0, 5),
        ("b", 1, 5),
    ]


def slowdown(minute: float) -> float:
    """Return how much slower a machine is than at its best: 10 % while a neighbour works, in minutes 4 to 8."""
    return 1.1 if 4 <= minute < 8 else 1.0


def seeming_effect(size: int | None) -> float:
    """Return by how much the others seem slower than the first, of three equal arms on 12 questions of 10 s."""
    minute, seconds = 0.0, {arm.name: 0.0 for arm in (A, B, C)}
    for block in order_of((A, B, C, C, B, A), 12, size):
        for _ in block.questions:
            took = 10 * slowdown(minute)
            seconds[block.arm.name] += took
            minute += took / 60
    return max(abs(seconds[name] / seconds["a"] - 1) for name in "bc")


def test_short_blocks_keep_a_slow_spell_from_becoming_an_effect() -> None:
    """ABBA alone lays a spell in the middle of a run on whoever stands there."""
    assert seeming_effect(None) > 0.08
    assert seeming_effect(3) < 0.02


def salts(block: int, cache: int) -> tuple[str, str]:
    """Return the cache salts of a block's questions and of its warm-up."""
    parts = SimpleNamespace(labels=ArmLabels("r1", "ab", "a"), block=block, history=NOTHING)
    measurement = cast("Measurement", parts)
    point = Measurement._phase(measurement, "c1", cache)
    return point.salt, Measurement._phase(measurement, WARM_UP, block, "-c1").salt


def test_a_place_goes_on_with_its_cache_and_shares_it_with_no_other() -> None:
    """What an arm reuses across questions must not depend on the length of its blocks; a warm-up warms nothing."""
    (first, warm), (later, warm_later), (other, _) = salts(0, 0), salts(6, 0), salts(1, 1)
    assert first == later
    assert len({first, other, warm, warm_later}) == 4


def test_the_bound_goes_on_as_long_as_the_engine() -> None:
    """Else the hits of a later block would lie above it."""
    facts = SimpleNamespace(block_size=4, adapter="")
    engine, next_one = (cast("Any", SimpleNamespace(facts=facts)) for _ in range(2))
    reuse, prompt = Reuse(), list(range(8))

    def reusable(on: Any) -> list[int]:
        reported: list[int] = []
        order = reuse.of(on)
        arrival = order.send("s")
        order.prompt(arrival, prompt)
        order.close(arrival, reported.append)
        return reported

    assert (reusable(engine), reusable(engine)) == ([0], [4])
    assert reusable(next_one) == [0]
    assert reuse.of(next_one).calls == 1
    assert reuse.of(engine).calls == 0, "it was forgotten, so the engine is warmed up again"
