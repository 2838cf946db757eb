"""The table by which people compare servers, as console, report and CSV show it; see `workload.analysis.serving`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from workload.analysis.wording import ABSENT, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from workload.analysis.serving import Goodput, Latency, Serving

SERVING_FILE = "serving.csv"
SERVED = "Served: rates and latencies by the definitions of vllm bench serve"
HEADER = ("arm", "load", "figure", "statistic", "n", "value")
LATENCIES: Mapping[Latency, str] = {
    "ttft": "time to first token, ms",
    "itl": "inter-token latency, ms",
    "tpot": "time per output token, ms",
    "e2e": "request end to end, ms",
    "question": "question end to end, ms",
}
QUANTILES: tuple[Literal["mean", "p50", "p90", "p99"], ...] = ("mean", "p50", "p90", "p99")
Rate = Literal["questions_per_second", "requests_per_second", "input_tokens_per_second", "output_tokens_per_second"]
RATES: tuple[Rate, ...] = get_args(Rate)
# Seconds since 1970 are stored to a quarter of a microsecond.
DIGITS = 7

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def tables(serving: Sequence[Serving]) -> list[Table]:
    """Return the tables of rates and of latencies, each with its columns and rows; none for a run without a load."""
    return [_rates(serving), _latencies(serving)] if serving else []


def _rates(serving: Sequence[Serving]) -> Table:
    columns = ("load", "questions/s", "requests/s", "tokens/s in", "tokens/s out", "error rate", "goodput")
    return columns, [
        (
            _name(row),
            *(number(row[name]) for name in RATES),
            f"{percent(row['error_rate'])}\nn={row['requests'] + row['failed_requests']}",
            _goodput(row["goodput"]),
        )
        for row in serving
    ]


def _goodput(found: Goodput | None) -> str:
    if found is None:
        return ABSENT
    return f"{percent(found['share'])}, {number(found['per_second'])}/s\nn={found['n']}"


def _latencies(serving: Sequence[Serving]) -> Table:
    columns = ("load", "latency", "mean", "P50", "P90", "P99", "n")
    return columns, [
        (_name(row), words, *(_ms(row["latency_seconds"][name][one]) for one in QUANTILES), str(n))
        for row in serving
        for name, words in LATENCIES.items()
        if (n := row["latency_seconds"][name]["n"])
    ]


def _name(row: Serving) -> str:
    return f"{row['arm']}, {row['load']}"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else number(1000 * seconds)


def csv_rows(serving: Sequence[Serving]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the CSV below `HEADER`: one figure each, in seconds or per second; empty where unknown."""
    for row in serving:
        questions, requests = row["questions"], row["requests"]
        counts = {"questions": questions, "failed_questions": row["failed_questions"]}
        counts |= {"requests": requests, "failed_requests": row["failed_requests"]}
        singles: list[tuple[str, str, int, float | None]] = [
            ("seconds", "sum", questions + row["failed_questions"], row["seconds"]),
            *((name, "count", count, count) for name, count in counts.items()),
            *((name, "rate", questions if name == RATES[0] else requests, row[name]) for name in RATES),
            ("error_rate", "share", requests + row["failed_requests"], row["error_rate"]),
        ]
        if found := row["goodput"]:
            singles += [("goodput", name, found["n"], found[name]) for name in ("share", "per_second")]
        for latency, spread in row["latency_seconds"].items():
            singles += [(f"{latency}_seconds", one, spread["n"], spread[one]) for one in QUANTILES]
        for figure, statistic, n, value in singles:
            written = "" if value is None else f"{value:.{DIGITS}g}"
            yield row["arm"], row["load"], figure, statistic, n, written
