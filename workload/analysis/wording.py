"""Numbers in words: shares, amounts, sizes and intervals are written the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workload.statistics.paired import Comparison

ABSENT = "not known"
BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Caveat(str):
    """A sentence of a run's conclusions that limits its result."""

    __slots__ = ()


class Bookkeeping(str):
    """A sentence of a run's conclusions on how its numbers were counted, checked and estimated."""

    __slots__ = ()


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share as a percentage with one decimal; an absent value in words."""
    if share is None:
        return ABSENT
    return f"{share:+.1%}" if signed else f"{share:.1%}"


def number(value: float | None) -> str:
    """Return a value with three significant digits, without decimals from 100 on; an absent value in words."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def size(value: float | None) -> str:
    """Return bytes with a binary unit and at least three significant digits; an absent value in words."""
    if value is None:
        return ABSENT
    power = 0
    while abs(value) >= 1024 and power < len(BINARY_UNITS) - 1:
        value /= 1024
        power += 1
    return f"{value:.0f} {BINARY_UNITS[power]}" if value >= 100 or not power else f"{value:.3g} {BINARY_UNITS[power]}"


def speedup(factor: float | None) -> str:
    """Return a speed-up with three decimals; an absent value in words."""
    return ABSENT if factor is None else f"{factor:.3f}x"


def given(value: float | None, unit: str = "") -> str:
    """Return a percentile with its unit; `-` where the samples were too few for it."""
    return "-" if value is None else number(value) + unit


def in_ms(seconds: float | None) -> str:
    """Return a percentile in milliseconds with one decimal, without the unit; `-` where the samples were too few."""
    return "-" if seconds is None else f"{1000 * seconds:.1f}"


def interval(bounds: tuple[float, float] | None, write: Callable[[float], str] = number) -> str:
    """Return `[low, high]` on a line of its own, or `no CI` where the values were too few for an interval."""
    return f"\n[{write(bounds[0])}, {write(bounds[1])}]" if bounds else "\nno CI"


def sent(accounting: Sequence[Mapping[str, Any]]) -> str:
    """Return how many questions were sent and failed over all windows."""
    failed = sum(sum(window["failed"].values()) for window in accounting)
    return f"{sum(window['sent'] for window in accounting)} questions sent, {failed} failed"


def change(compared: Comparison) -> str:
    """Return a paired change with its interval on one line."""
    return (percent(compared["change"], signed=True) + interval(compared["change_ci"], percent)).replace("\n", " ")
