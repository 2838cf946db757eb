"""The table by which people compare servers, in the definitions of `vllm bench serve` (vLLM, vllm/benchmarks/serve.py).

Everything is computed from the journal's rows of questions and calls. Quantiles are interpolated linearly between
order statistics, as `numpy.percentile` does; P90 needs 10 values and P99 100. docs/comparison.md maps the names of
other tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import numpy as np

from workload.analysis.latency import answered, ended
from workload.analysis.levels import end_of, start_of
from workload.record.results import Row, group, total
from workload.statistics.percentiles import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from workload.record.results import RunData
    from workload.statistics.slo import CallObjective, Objective

Latency = Literal["ttft", "itl", "tpot", "e2e", "question"]
MICROSECONDS = 1e6


class Spread(TypedDict):
    """The mean and the quantiles of `n` values in seconds; None where `n` values are too few."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None


class Goodput(TypedDict):
    """The questions that met their objectives, in seconds; `per_second` is None without a duration."""

    objectives: Mapping[Objective, float]
    n: int
    good: int
    share: float | None
    per_second: float | None


class Serving(TypedDict):
    """One load of an arm. `seconds` last from the first question sent to the last one ended, added over its blocks.

    A request is an LLM call; failed and refused ones count in `failed_requests` only. `goodput` is None without
    objectives, or where the journal lacks what they need.
    """

    arm: str
    load: str
    seconds: float
    questions: int
    failed_questions: int
    requests: int
    failed_requests: int
    questions_per_second: float | None
    requests_per_second: float | None
    input_tokens_per_second: float | None
    output_tokens_per_second: float | None
    error_rate: float | None
    latency_seconds: dict[Latency, Spread]
    goodput: Goodput | None


def ttft(call: Row) -> list[float]:
    """Return the seconds from sending a call to its first chunk with tokens; nothing where it had none."""
    return [] if call["ttft_seconds"] is None else [call["ttft_seconds"]]


def itl(call: Row) -> list[float]:
    """Return the seconds between each two chunks with tokens."""
    return [gap / MICROSECONDS for gap in _gaps(call).tolist()]


def mean_itl(call: Row) -> list[float]:
    """Return the mean of the seconds between a call's chunks with tokens; nothing where it had one, or if unknown."""
    gaps = len(_gaps(call))
    return [_decode(call) / gaps] if gaps else []


def e2e(call: Row) -> list[float]:
    """Return the seconds from sending a call to its last chunk with tokens; nothing where the chunks are unknown."""
    return [first + _decode(call) for first in ttft(call) if call["token_gaps"] is not None]


def tpot(call: Row) -> list[float]:
    """Return the seconds from a call's first to its last chunk, for each token but the first; nothing for one token."""
    steps = (call["completion_tokens"] or 0) - 1
    return [_decode(call) / steps] if steps > 0 and call["token_gaps"] is not None else []


OF_CALL: Mapping[CallObjective, Callable[[Row], list[float]]] = {"ttft": ttft, "itl": itl, "tpot": tpot, "e2e": e2e}
# A call has at most one value by which it meets an objective or does not.
OBJECTIVES = {**OF_CALL, "itl": mean_itl}


def serving(data: RunData, slo: Mapping[Objective, float]) -> list[Serving]:
    """Return the table of a run: a row for each arm and load, in the order of measurement."""
    places = dict.fromkeys((part.window.arm, part.window.point) for part in data.measured)
    return [
        serving_at(
            arm,
            point,
            [row for row in data.questions if (row["arm"], row["phase"]) == (arm, point)],
            [call for call in data.calls if (call["arm"], call["phase"]) == (arm, point)],
            slo=slo,
        )
        for arm, point in places
    ]


def serving_at(
    arm: str, load: str, questions: Sequence[Row], calls: Sequence[Row], *, slo: Mapping[Objective, float]
) -> Serving:
    """Return the row of one load from its questions and calls."""
    asked = ended(questions)
    blocks = group(({**row, "load": (row["block"], row["segment"])} for row in asked), "load").values()
    seconds = sum(max(map(end_of, rows)) - min(map(start_of, rows)) for rows in blocks)
    good = [call for call in calls if call["outcome"] == "ok"]

    def rate(amount: float | None) -> float | None:
        return amount / seconds if seconds and amount is not None else None

    answers = [row["duration_seconds"] for row in answered(asked)]
    return {
        "arm": arm,
        "load": load,
        "seconds": seconds,
        "questions": len(answers),
        "failed_questions": len(asked) - len(answers),
        "requests": len(good),
        "failed_requests": len(calls) - len(good),
        "questions_per_second": rate(len(answers)),
        "requests_per_second": rate(len(good)),
        "input_tokens_per_second": rate(total(good, "prompt_tokens")),
        "output_tokens_per_second": rate(total(good, "completion_tokens")),
        "error_rate": 1 - len(good) / len(calls) if calls else None,
        "latency_seconds": {
            **{name: spread([value for call in good for value in of(call)]) for name, of in OF_CALL.items()},
            "question": spread(answers),
        },
        "goodput": _goodput(asked, calls, slo, seconds),
    }


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the quantiles of values in seconds."""
    p50, p90, p99 = (quantile(values, p) for p in (0.50, 0.90, 0.99))
    return {"n": len(values), "mean": float(np.mean(values)) if values else None, "p50": p50, "p90": p90, "p99": p99}


def is_good(question: Row, calls: Iterable[Row], slo: Mapping[Objective, float]) -> bool:
    """Return whether a question was answered in time and each of its calls, retries included, met every objective.

    A call meets `itl` if the mean of its gaps does, as in the goodput of other tools; one of a single token has no
    gap and meets `itl` and `tpot`. A call that failed, or that had no token, meets none.
    """
    if question["outcome"] != "ok" or question["duration_seconds"] > slo.get("question", np.inf):
        return False
    limits: dict[CallObjective, float] = {name: limit for name, limit in slo.items() if name != "question"}
    return all(_meets(call, limits) for call in calls) if limits else True


def _meets(call: Row, limits: Mapping[CallObjective, float]) -> bool:
    if call["outcome"] != "ok" or call["ttft_seconds"] is None:
        return False
    return all(value <= limit for name, limit in limits.items() for value in OBJECTIVES[name](call))


def _goodput(
    questions: Sequence[Row], calls: Sequence[Row], slo: Mapping[Objective, float], seconds: float
) -> Goodput | None:
    is_unknown = any(call["token_gaps"] is None for call in calls if call["ttft_seconds"] is not None)
    if not slo or (slo.keys() & {"itl", "tpot", "e2e"} and is_unknown):
        return None
    by_question = group(calls, "question")
    good = sum(is_good(row, by_question.get(row["id"], ()), slo) for row in questions)
    return {
        "objectives": slo,
        "n": len(questions),
        "good": good,
        "share": good / len(questions) if questions else None,
        "per_second": good / seconds if seconds else None,
    }


def _gaps(call: Row) -> NDArray[np.uint32]:
    return np.frombuffer(call["token_gaps"] or b"", dtype=np.uint32)


def _decode(call: Row) -> float:
    return int(_gaps(call).sum(dtype=np.int64)) / MICROSECONDS
