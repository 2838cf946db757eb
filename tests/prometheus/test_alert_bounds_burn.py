"""The bounds of the burn rates, from both sides, in each of their three tiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.prometheus.test_alert_bounds import Case, shipped, write_suites
from tests.prometheus.test_alert_bounds_engine import engine
from workload.promql.selectors import selector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Phases = tuple[tuple[int, float, float], ...]

OF_AGENT = {"job": "workload", "instance": "h:9500", "run": "r", "experiment": "e", "arm": "a", "node": "decide"}


class Tier(NamedTuple):
    """A tier of the burn rates: its windows, its factor, the period of its samples and of its evaluation, in seconds.

    It is evaluated seldom, for only the end of long windows matters.
    """

    window: str
    short: int
    long: int
    factor: float
    period: int
    evaluation: int


TIERS = (
    Tier("1h", 300, 3600, 14.4, 15, 60),
    Tier("6h", 1800, 21600, 6, 120, 600),
    Tier("1d", 7200, 86400, 3, 600, 3600),
)
BUDGETS = {"VllmTtftBudgetBurn": 0.05, "LlmErrorBudgetBurn": 0.01}


def events(alert: str, phases: Phases, tier: Tier, **labels: str) -> dict[str, str]:
    """Return the counters of an objective over phases of (seconds, events per second, share of them that is bad)."""

    def counter(rate: Callable[[float, float], float]) -> str:
        total, text = 0.0, ["0"]
        for seconds, per_second, share in phases:
            step = rate(per_second, share) * tier.period
            text.append(f"{total + step:.6f}+{step:.6f}x{seconds // tier.period - 1}")
            total += step * (seconds // tier.period)
        return " ".join(text)

    good = counter(lambda per_second, share: per_second * (1 - share))
    if alert == "LlmErrorBudgetBurn":
        calls = selector("hop2rag_llm_call_duration_seconds_count", OF_AGENT | labels)
        errors = selector("hop2rag_llm_errors_total", {**OF_AGENT, "reason": "timeout", **labels})
        return {calls: good, errors: counter(lambda per_second, share: per_second * share)}
    bucket = engine("time_to_first_token_seconds_bucket", le="2.5", **labels)
    return {
        bucket: good,
        engine("time_to_first_token_seconds_count", **labels): counter(lambda per_second, _: per_second),
    }


def burns(tier: Tier) -> Iterable[Case]:
    """Yield the cases of one tier, each seen at its end."""
    only = f'severity!="page",window="{tier.window}"'
    for alert, budget in BUDGETS.items():
        short, long, bound = tier.short, tier.long, tier.factor * budget
        rest, many, high = long - short, 600 / short, min(1.0, 2 * bound)
        low = max(0.0, (0.85 * bound * long - high * short) / rest)
        in_long: Phases = ((rest, many, low), (short, many, high))
        in_short: Phases = ((rest, many, min(1.0, 1.5 * bound)), (short, many, 0.85 * bound))
        before: Phases = ((long, many, 1.0), (rest, many, 0.6 * bound), (short, many, high))
        steers_at_once = alert == "LlmErrorBudgetBurn" and tier.window == "1h"
        for why, fires, phases in (
            ("above", True, ((long, many, 1.15 * bound),)),
            ("below over the long window", False, in_long),
            ("below over the short window", False, in_short),
            ("worse before the long window", False, before),
            ("8 events of late", False, ((rest, 80 / rest, 1.0), (short, 8 / short, 1.0))),
            ("15 events of late", True, ((rest, 80 / rest, 1.0), (short, 15 / short, 1.0))),
            ("40 events in all", steers_at_once, ((rest, 25 / rest, 1.0), (short, 15 / short, 1.0))),
            ("better before the long window", True, ((long, many, 0.0), (long, many, 1.15 * bound))),
            ("still above, worse before", True, ((long, many, 1.0), (long, many, 1.15 * bound))),
            ("15 events alone", steers_at_once, ((rest, 0.0, 0.0), (short, 15 / short, 1.0))),
            ("70 events in all", True, ((rest, 55 / rest, 1.0), (short, 15 / short, 1.0))),
        ):
            at = {"firing" if fires else "silent": (sum(seconds for seconds, _, _ in phases),)}
            series = events(alert, phases, tier)
            yield Case(alert, f"{tier.window}, {why}", series, labels=only, step=f"{tier.period}s", **at)
        crosses: Phases = ((rest, many, 1.15 * bound), (short, many, 0.99 * bound), (tier.evaluation, many, 0.9))
        series, step = events(alert, crosses, tier), f"{tier.period}s"
        yield Case(alert, f"{tier.window}, at once", series, (long,), (long + tier.evaluation,), labels=only, step=step)
        if alert == "VllmTtftBudgetBurn":
            for part in ({"model_name": "n"}, {"instance": "g:8000"}):
                two = events(alert, in_long, tier) | events(alert, in_short, tier, **part)
                why = f"{tier.window}, one late now, one late before: {part}"
                yield Case(alert, why, two, (long,), labels=only, step=f"{tier.period}s")
            above: Phases = ((long, many, 1.15 * bound),)
            both = events(alert, above, tier, pid="1") | events(alert, above, tier, pid="2")
            why = f"{tier.window}, two processes are one server"
            yield Case(alert, why, both, firing=(long,), labels=only, step=f"{tier.period}s")
            ranks = events(alert, in_long, tier) | events(alert, in_long, tier, engine="1")
            yield Case(alert, f"{tier.window}, of two ranks", ranks, (long,), labels=only, step=f"{tier.period}s")


def cold() -> Iterable[Case]:
    """Yield the cases of a start, which the first tier alone sees."""
    alert, tier, only = "VllmTtftBudgetBurn", TIERS[0], 'severity!="page",window="1h"'
    late: Phases = ((600, 1.0, 1.0),)
    yield Case(
        alert, "a server's first minutes", events(alert, late, tier), (105,), (135, 300), labels=only, step="15s"
    )
    new = {series: f"_x60 {values}" for series, values in events(alert, late, tier).items()}
    old = events(alert, ((1500, 1.0, 0.0),), tier, model_name="n")
    yield Case(alert, "of a new model", new | old, (105 + 900,), (135 + 900,), labels=only, step="15s")
    alert = "LlmErrorBudgetBurn"
    yield Case(alert, "calls of a start", events(alert, late, tier), (0,), (45,), labels=only, step="15s")


def suites() -> Iterator[dict[str, Any]]:
    """Yield the cases as suites of rule tests."""
    yield shipped(cold(), "15s")
    for tier in TIERS:
        yield shipped(burns(tier), f"{tier.evaluation}s")


@pytest.mark.prometheus
def test_each_number_of_a_burn_rate_counts(found_promtool: Callable[..., str], tmp_path: Path) -> None:
    """A threshold twice as high, a window a third as long, a label too few: each changes one of these cases."""
    found_promtool("test", "rules", *write_suites(suites(), tmp_path))
