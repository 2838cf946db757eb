"""Prometheus' HTTP API: queries in, labelled numbers out. An error or an empty answer raises; a gap stays a gap."""

from __future__ import annotations

import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import requests

from workload.errors import DependencyDownError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

MAX_POINTS = 11_000  # of a series, the most that Prometheus returns for one range query

RELOAD = re.compile(r"^prometheus_config_last_reload_(\w+) (\S+)$", re.MULTILINE)
AT_ONCE_SECONDS = 5.0  # for checks of health and alerts; a query over hours may take longer
Window: TypeAlias = tuple[float, float]


class PrometheusError(DependencyDownError):
    """Prometheus does not answer, or answers something unusable."""


class QueryError(PrometheusError):
    """Prometheus refused a query or failed while it evaluated it."""


class NoDataError(PrometheusError):
    """A query matched nothing: the series is absent, which is not zero."""

    def __init__(self, query: str, window: Window | None) -> None:
        when = f"between {window[0]:.3f} and {window[1]:.3f}" if window else "now"
        super().__init__(
            f"No data for `{query}` {when}.", "Check the labels, and that the target is up and exposes this metric."
        )
        self.query = query
        self.window = window


class CounterResetError(PrometheusError):
    """A counter fell `times` times inside a window that needs exact figures: its process was restarted."""

    def __init__(self, cause: str, remedy: str, times: int) -> None:
        super().__init__(cause, remedy)
        self.times = times


@dataclass(frozen=True)
class Sample:
    """One series at one instant; `time` in seconds since the epoch."""

    labels: Mapping[str, str]
    time: float
    value: float


@dataclass(frozen=True, eq=False)
class Series:
    """One series over time: `times` (n,) in seconds since the epoch, ascending, and `values` (n,), NaN for a gap."""

    labels: Mapping[str, str]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


class PrometheusClient:
    """Asks one Prometheus over a `requests` session; the URL may contain credentials, which no message repeats."""

    def __init__(self, url: str, session: requests.Session, *, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url.rstrip("/"))
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.warnings: list[str] = []
        self._address = url.rstrip("/")
        self._session = session
        self._timeout_s = timeout_s

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """Evaluate `promql` at an instant (now, by Prometheus' clock, if `at` is None).

        A scalar comes back as one sample without labels.

        Raises:
            NoDataError: the result is empty.
            PrometheusError: any other failure; `QueryError` when Prometheus names the query as the reason.
        """
        form = {"query": promql} | ({} if at is None else {"time": f"{at:.3f}"})
        kind, result = self._evaluate("query", form)
        if kind not in {"scalar", "vector"}:
            raise QueryError(f"`{promql}` gives a {kind}, not a number at an instant.", "Use raw() for stored samples.")
        if not result:
            raise NoDataError(promql, None if at is None else (at, at))
        with self._understood():
            rows = [{"metric": {}, "value": result}] if kind == "scalar" else result
            return [Sample(dict(row["metric"]), float(row["value"][0]), float(row["value"][1])) for row in rows]

    def query_range(self, promql: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate `promql` at `start`, `start + step`, ... up to and including `end` (seconds, to the millisecond).

        Every returned series has all these times, with NaN where Prometheus returned no point. A range of more than
        `MAX_POINTS` steps is queried in pieces that share no instant.

        Raises:
            NoDataError: no series has a point in the whole range.
            PrometheusError: any other failure.
            ValueError: `step` is under a millisecond, or `end` lies before `start`.
        """
        import numpy as np  # noqa: PLC0415 - the doctor asks no ranges, and the base installs no numpy

        start_ms, end_ms, step_ms = round(start * 1000), round(end * 1000), round(step * 1000)
        if step_ms < 1 or end_ms < start_ms:
            raise ValueError(f"a range needs start <= end and a step of at least 1 ms, not {start}, {end}, {step}")
        grid_ms = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        values: dict[frozenset[tuple[str, str]], NDArray[np.float64]] = {}
        for first in range(0, len(grid_ms), MAX_POINTS):
            piece = grid_ms[first : first + MAX_POINTS]
            form = {"start": _seconds(piece[0]), "end": _seconds(piece[-1]), "step": _seconds(step_ms)}
            _, result = self._evaluate("query_range", {"query": promql} | form)
            with self._understood():
                for row in result:
                    at_ms, found = _columns(row)
                    line = values.setdefault(frozenset(row["metric"].items()), np.full(len(grid_ms), np.nan))
                    line[first + np.searchsorted(piece, at_ms)] = found
        if not values:
            raise NoDataError(promql, (start, end))
        return [Series(dict(sorted(labels)), grid_ms / 1000.0, line) for labels, line in values.items()]

    def raw(self, selector: str, start: float, end: float) -> list[Series]:
        """Return the finite stored samples of a selector with their own timestamps, `start <= t <= end`.

        Raises:
            NoDataError: nothing is stored there.
            PrometheusError: any other failure.
        """
        start_ms, end_ms = round(start * 1000), round(end * 1000)
        # One millisecond more, cut off below: Prometheus 3 excludes the left end of a range, Prometheus 2 includes it.
        promql = f"{selector}[{end_ms - start_ms + 1}ms]"
        kind, result = self._evaluate("query", {"query": promql, "time": _seconds(end_ms)})
        if kind != "matrix":
            raise QueryError(f"`{selector}` is not a selector of stored samples.")
        found = []
        with self._understood():
            for row in result:
                at_ms, values = _columns(row)
                inside = (at_ms >= start_ms) & (abs(values) < math.inf)
                if inside.any():
                    found.append(Series(row["metric"], at_ms[inside] / 1000.0, values[inside]))
        if not found:
            raise NoDataError(promql, (start, end))
        return found

    def resets(self, selector: str, start: float, end: float) -> list[Sample]:
        """Return how often each counter fell between its sample valid at `start` and its sample valid at `end`.

        Raises:
            NoDataError: the selector matches nothing at `start`, or nothing in the range.
            PrometheusError: any other failure.
        """
        oldest = min(sample.value for sample in self.query(f"timestamp({selector})", start))
        return self.query(f"resets({selector}[{round((end - oldest) * 1000) + 1}ms])", end)

    def counter_deltas(self, selector: str, start: float, end: float) -> list[Sample]:
        """Return, for each series of a counter, its value at `end` minus its value at `start`, exactly.

        This is `selector @ end - selector @ start`. `increase()` extrapolates each counter differently to the edges of
        its window, so token counts become fractions and the ratio of two increases is not the ratio of the counts.
        Instants from `wait_for_scrapes` make the two values exact.

        Raises:
            NoDataError: a series is absent, or not finite, at one of the two instants.
            CounterResetError: a series fell in between.
            PrometheusError: any other failure.
        """
        before = {frozenset(sample.labels.items()): sample.value for sample in self.query(selector, start)}
        after = self.query(selector, end)
        is_finite = all(map(math.isfinite, [*before.values(), *(sample.value for sample in after)]))
        if not is_finite or before.keys() != {frozenset(sample.labels.items()) for sample in after}:
            raise NoDataError(selector, (start, end))
        if fallen := [sample for sample in self.resets(selector, start, end) if sample.value > 0]:
            raise CounterResetError(
                f"`{selector}` was reset between {start:.3f} and {end:.3f}: {fallen[0].labels}.",
                "Its process restarted, so the window has no exact count; run this arm again.",
                round(max(sample.value for sample in fallen)),
            )
        return [
            Sample(sample.labels, sample.time, sample.value - before[frozenset(sample.labels.items())])
            for sample in after
        ]

    def counter_delta(self, selector: str, start: float, end: float) -> float:
        """Return the sum of `counter_deltas` over all series of the selector; raises what that raises."""
        return math.fsum(sample.value for sample in self.counter_deltas(selector, start, end))

    def ready(self) -> bool:
        """Return whether Prometheus answers and has finished its start; never raises if it does not answer."""
        try:
            return self._send("GET", "/-/ready", limit_s=AT_ONCE_SECONDS).status_code == HTTPStatus.OK
        except PrometheusError:
            return False

    def version(self) -> str:
        """Return the server's version, such as `2.42.0+ds`."""
        with self._understood():
            return str(self._data("GET", "/api/v1/status/buildinfo")["version"])

    def flags(self) -> dict[str, str]:
        """Return the server's command-line flags, without leading dashes."""
        with self._understood():
            return dict(self._data("GET", "/api/v1/status/flags"))

    def scrape_errors(self) -> dict[tuple[str, str], str]:
        """Return the last scrape's error of each target by (job, instance); empty if it succeeded."""
        with self._understood():
            active = self._data("GET", "/api/v1/targets?state=active")["activeTargets"]
            return {(target["labels"]["job"], target["labels"]["instance"]): target["lastError"] for target in active}

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of each firing alert of the rules that this server evaluates.

        Raises:
            PrometheusError: it does not answer within seconds, or not as Prometheus does.
        """
        data = self._data("GET", "/api/v1/alerts", limit_s=AT_ONCE_SECONDS)
        with self._understood():
            return [dict(alert["labels"].items()) for alert in data["alerts"] if alert["state"] == "firing"]

    def last_reload(self) -> tuple[float, bool]:
        """Return when a configuration was last loaded, in seconds since the epoch, and whether the last try succeeded.

        Raises:
            PrometheusError: it does not answer, or not as Prometheus does.
        """
        found = dict(RELOAD.findall(self._send("GET", "/metrics").text))
        with self._understood():
            return float(found["success_timestamp_seconds"]), float(found["successful"]) == 1

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Raise `PrometheusError` if an answer does not have the API's shape."""
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PrometheusError(f"{self.url} answers, but not as Prometheus does.", "Check the address.") from error

    def _evaluate(self, endpoint: str, form: Mapping[str, str]) -> tuple[str, Any]:
        data = self._data("POST", f"/api/v1/{endpoint}", form)
        with self._understood():
            return data["resultType"], data["result"]

    def _data(self, method: str, path: str, form: Mapping[str, str] | None = None, limit_s: float = 0.0) -> Any:
        response = self._send(method, path, form, limit_s)
        try:
            body = response.json()
            succeeded = body["status"] == "success" and response.status_code == HTTPStatus.OK
            data = body["data"] if succeeded else None
            warnings = [str(warning) for warning in body.get("warnings", ())]
        except (ValueError, KeyError, TypeError, RecursionError) as error:  # ValueError: also too many digits
            says = f"{self.url}{path} answered HTTP {response.status_code}, but not as Prometheus' API."
            raise PrometheusError(says, "Check the address.") from error
        query = form["query"] if form else path
        for warning in warnings:
            if (line := f"{query}: {warning}") not in self.warnings:
                self.warnings.append(line)
        if not succeeded:
            raise QueryError(
                f"Prometheus failed on `{query}`: {body.get('errorType')}: {body.get('error')}.", "Look at its log."
            )
        return data

    def _send(
        self, method: str, path: str, form: Mapping[str, str] | None = None, limit_s: float = 0.0
    ) -> requests.Response:
        try:
            return self._session.request(
                method, self._address + path, data=form, timeout=limit_s or self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise PrometheusError(
                f"Prometheus at {self.url} does not answer ({type(error).__name__}).", "Start it with `hop2rag up`."
            ) from error


def _columns(row: Mapping[str, Iterable[Any]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    import numpy as np  # noqa: PLC0415 - see `query_range`

    times, values = zip(*row["values"], strict=True)
    return np.rint(np.array(times, dtype=np.float64) * 1000).astype(np.int64), np.array(values, dtype=np.float64)


def _seconds(at_ms: int) -> str:
    return f"{at_ms / 1000:.3f}"
