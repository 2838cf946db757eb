"""Answers of the right shape without a number, and answers of the wrong shape: absent, or one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.workload.services.test_prometheus_client import client_of, result
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "body", [b"9" * 5000, b'{"status": "success", "data": ' + b"1" * 5000 + b"}"], ids=["bare", "data"]
)
def test_a_number_of_too_many_digits_raises(body: bytes) -> None:
    """Python reads 4,300 digits and says ValueError: the one error of `json` that is not a JSONDecodeError."""
    client, _ = client_of(lambda *_: (200, body))
    with pytest.raises(PrometheusError, match="but not as Prometheus' API"):
        client.query("x")


@pytest.mark.parametrize(
    ("ask", "data"),
    [
        *(
            (ask, data)
            for ask in (PrometheusClient.version, PrometheusClient.scrape_errors)
            for data in (None, [], {}, 7)
        ),
        *((PrometheusClient.flags, data) for data in (None, 7, "x")),
        *((PrometheusClient.scrape_errors, {"activeTargets": found}) for found in (None, [{}], ["x"], 7)),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_what_is_asked_at_the_start_is_checked_too(ask: Callable[[PrometheusClient], object], data: Any) -> None:
    """`data: null` of some other server on our port was a TypeError, before a run and while it waited for scrapes."""
    client, _ = client_of(lambda *_: (200, {"status": "success", "data": data}))
    with pytest.raises(PrometheusError, match="not as Prometheus does"):
        ask(client)


def test_a_sample_that_is_no_number_says_nothing() -> None:
    """A target may show NaN, and Prometheus keeps it: one made a peak, a mean and every ratio of a report NaN."""
    values = [[1.0, "NaN"], [1.5, "+Inf"], [2.0, "3"]]
    client, _ = client_of(lambda *_: result("matrix", [{"metric": {}, "values": values}]))
    assert client.raw("up", 1, 2)[0].values.tolist() == [3.0]
    values.pop()
    with pytest.raises(NoDataError):
        client.raw("up", 1, 2)


@pytest.mark.parametrize("reported", [("NaN", "5"), ("5", "NaN"), ("NaN", "NaN"), ("5", "+Inf")])
def test_a_counter_that_is_no_number_has_no_delta(reported: tuple[str, str]) -> None:
    """It is absent: a hit rate of NaN would be printed, and NaN is no JSON."""

    def answer(_: str, form: dict[str, str]) -> tuple[int, Any]:
        value = reported[form["time"] == "20.000"] if form["query"] == "c" else "0"
        return result("vector", [{"metric": {}, "value": [10, value]}])

    client, _ = client_of(answer)
    with pytest.raises(NoDataError):
        client.counter_deltas("c", 10, 20)
