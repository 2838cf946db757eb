"""When an open loop sends its questions."""

from __future__ import annotations

from itertools import accumulate
from random import Random


def poisson(rate: float, number: int, seed: int) -> tuple[float, ...]:
    """Return `number` arrival times, in seconds, of a Poisson process: independent users, `rate` per second."""
    random = Random(seed)
    return tuple(accumulate(random.expovariate(rate) for _ in range(number)))
