"""The API client against a stub of Prometheus' HTTP answers: every failure raises, and no gap becomes a number."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.adapters import BaseAdapter

from workload.errors import DependencyDownError
from workload.services.prometheus import (
    MAX_POINTS,
    CounterResetError,
    NoDataError,
    PrometheusClient,
    PrometheusError,
    QueryError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Form = dict[str, str]


class StubAdapter(BaseAdapter):
    """Answers every request with what `answer` returns for its path and form; keeps the forms."""

    def __init__(self, answer: Callable[[str, Form], tuple[int, Any]]) -> None:
        super().__init__()
        self.answer = answer
        self.forms: list[Form] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer without a network."""
        form = {name: values[0] for name, values in parse_qs(str(request.body or "")).items()}
        self.forms.append(form)
        response = requests.Response()
        response.status_code, body = self.answer(str(request.path_url), form)
        response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response.request = request
        response.url = str(request.url)
        return response

    def close(self) -> None:
        """Nothing to close."""


def client_of(answer: Callable[[str, Form], tuple[int, Any]]) -> tuple[PrometheusClient, StubAdapter]:
    """Return a client of the stub, and the stub to look into."""
    session = requests.Session()
    adapter = StubAdapter(answer)
    session.mount("http://", adapter)
    return PrometheusClient("http://user:secret@stub:9090/", session), adapter


def result(kind: str, value: Any, **more: Any) -> tuple[int, Any]:
    """Return a successful answer."""
    return 200, {"status": "success", "data": {"resultType": kind, "result": value}, **more}


def test_vector_and_scalar_are_samples() -> None:
    """Panels read both kinds; infinities and NaN are numbers Prometheus really sends, as text."""
    client, adapter = client_of(
        lambda _, form: (
            result("scalar", [5, "2"])
            if form["query"] == "scalar(x)"
            else result("vector", [{"metric": {"a": "1"}, "value": [5.25, "NaN"]}])
        )
    )
    (sample,) = client.query("x", at=5.25)
    assert (sample.labels, sample.time, math.isnan(sample.value)) == ({"a": "1"}, 5.25, True)
    assert client.query("scalar(x)")[0].value == 2.0
    assert adapter.forms[0] == {"query": "x", "time": "5.250"}
    assert "time" not in adapter.forms[1]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((200, b"<html>"), PrometheusError, "but not as Prometheus' API"),
        ((200, b"[]"), PrometheusError, "but not as Prometheus' API"),
        ((200, {"status": "success"}), PrometheusError, "but not as Prometheus' API"),
        ((502, b"bad gateway"), PrometheusError, "HTTP 502"),
        ((302, b""), PrometheusError, "HTTP 302"),
        ((400, {"status": "error", "errorType": "bad_data", "error": "parse error"}), QueryError, "parse error"),
        ((200, {"status": "error", "errorType": "timeout", "error": "too slow"}), QueryError, "too slow"),
        ((200, {"status": "success", "data": {}}), PrometheusError, "not as Prometheus"),
        ((200, {"status": "success", "data": {"resultType": "vector", "result": []}}), NoDataError, "No data"),
        ((200, {"status": "success", "data": {"resultType": "matrix", "result": []}}), QueryError, "matrix"),
    ],
)
def test_every_unusable_answer_raises(answer: tuple[int, Any], error: type[PrometheusError], says: str) -> None:
    """An error that became an empty list would be drawn as an empty panel, without a reason."""
    client, _ = client_of(lambda *_: answer)
    with pytest.raises(error, match=says) as caught:
        client.query("x")
    assert caught.value.exit_code == DependencyDownError.exit_code
    assert "secret" not in str(caught.value)


def test_unreachable_names_the_address_but_not_the_password() -> None:
    """A URL with credentials is common behind a proxy; the error is shown and stored."""

    def refuse(*_: Any) -> tuple[int, Any]:
        raise requests.ConnectionError("http://user:secret@stub:9090/")

    client, _ = client_of(refuse)
    with pytest.raises(PrometheusError, match=r"http://stub:9090 does not answer \(ConnectionError\)") as caught:
        client.query("x")
    assert "secret" not in str(caught.value)
    assert client.ready() is False


def test_warnings_are_kept_once() -> None:
    """A partial answer is marked only by its warning; the manifest of a run must carry it."""
    row = [{"metric": {}, "value": [1, "1"]}]
    client, _ = client_of(lambda *_: result("vector", row, warnings=["partial response"]))
    client.query("x")
    client.query("x")
    assert client.warnings == ["x: partial response"]


def range_server(present: Callable[[int], bool] = lambda _: True) -> Callable[[str, Form], tuple[int, Any]]:
    """Answer range queries as Prometheus does, value = time in ms, only at the instants that are `present`."""

    def answer(_: str, form: Form) -> tuple[int, Any]:
        start, end, step = (round(float(form[name]) * 1000) for name in ("start", "end", "step"))
        instants = range(start, end + 1, step)
        assert len(instants) <= MAX_POINTS, "Prometheus refuses more"
        values = [[at / 1000, str(at)] for at in instants if present(at)]
        return result("matrix", [{"metric": {"b": "2", "a": "1"}, "values": values}] if values else [])

    return answer


@given(
    start_ms=st.integers(0, 2 * 10**12),
    step_ms=st.integers(1, 60_000),
    steps=st.integers(0, 3 * MAX_POINTS),
    rest=st.floats(0, 0.99),
)
def test_cutting_a_range_keeps_every_point_once(start_ms: int, step_ms: int, steps: int, rest: float) -> None:
    """A 10 ms panel over ten minutes is six pieces: a point twice or missing at a seam would be an invented feature."""
    client, adapter = client_of(range_server())
    end_ms = start_ms + steps * step_ms + int(rest * step_ms)
    (series,) = client.query_range("x", start_ms / 1000, end_ms / 1000, step_ms / 1000)
    expected = start_ms + step_ms * np.arange(steps + 1)
    np.testing.assert_array_equal(series.values, expected)
    np.testing.assert_array_equal(np.rint(series.times * 1000), expected)
    assert len(adapter.forms) == -(-(steps + 1) // MAX_POINTS)
    assert series.labels == {"a": "1", "b": "2"}


@given(missing=st.sets(st.integers(0, 50), max_size=50))
def test_a_missing_point_is_a_gap(missing: set[int]) -> None:
    """A line drawn across a gap, or a zero in it, says that something was measured there."""
    client, _ = client_of(range_server(lambda at: at // 100 not in missing))
    (series,) = client.query_range("x", 0, 5, 0.1)
    assert {int(i) for i in np.flatnonzero(np.isnan(series.values))} == missing


def test_a_range_without_any_series_raises_with_its_window() -> None:
    """A report names the query and the window that were empty; a wrong metric name looks just like this."""
    client, _ = client_of(range_server(lambda _: False))
    with pytest.raises(NoDataError) as caught:
        client.query_range("x", 10, 20, 1)
    assert (caught.value.query, caught.value.window) == ("x", (10, 20))


@pytest.mark.parametrize(("start", "end", "step"), [(0, 1, 0), (0, 1, 0.0001), (1, 0, 1)])
def test_a_range_that_is_none_is_refused(start: float, end: float, step: float) -> None:
    """A step of 0 would loop for ever; Prometheus itself knows only milliseconds."""
    client, _ = client_of(range_server())
    with pytest.raises(ValueError, match="a range needs"):
        client.query_range("x", start, end, step)


def test_raw_keeps_only_samples_inside() -> None:
    """One millisecond more is asked for, since Prometheus 3 excludes a range's left end; it must not come back."""
    values = [[0.999, "1"], [1.0, "2"], [2.0, "3"]]
    client, adapter = client_of(lambda *_: result("matrix", [{"metric": {}, "values": values}]))
    (series,) = client.raw("up", 1, 2)
    assert adapter.forms[0] == {"query": "up[1001ms]", "time": "2.000"}
    assert series.times.tolist() == [1.0, 2.0]
    with pytest.raises(NoDataError):
        client.raw("up", 5, 6)


def counter_server(
    start: dict[str, float], end: dict[str, float], resets: float = 0
) -> Callable[[str, Form], tuple[int, Any]]:
    """Answer the queries behind an exact difference between 10 s and 20 s, from values by `node`."""

    def answer(_: str, form: Form) -> tuple[int, Any]:
        query, at = form["query"], float(form["time"])
        if query.startswith("timestamp"):
            found = dict.fromkeys(start, 9.5)
        elif query.startswith("resets"):
            assert query == "resets(c[10501ms])", "the range must reach back to the sample valid at the start"
            found = dict.fromkeys(end, resets)
        else:
            found = start if at == 10 else end
        return result("vector", [{"metric": {"node": k}, "value": [at, str(v)]} for k, v in found.items()])

    return answer


def test_counter_delta_is_the_difference_of_two_instants() -> None:
    """Token counts are whole; a rate or an increase over the same window would be a fraction near them."""
    client, _ = client_of(counter_server({"a": 7, "b": 2**53 - 10}, {"a": 30, "b": 2**53 - 1}))
    assert {s.labels["node"]: s.value for s in client.counter_deltas("c", 10, 20)} == {"a": 23, "b": 9}
    assert client.counter_delta("c", 10, 20) == 32


def test_a_restart_inside_the_window_raises() -> None:
    """After a restart the difference may still be positive, and wrong."""
    client, _ = client_of(counter_server({"a": 7}, {"a": 30}, resets=1))
    with pytest.raises(CounterResetError, match=r"restarted.*run this arm again"):
        client.counter_delta("c", 10, 20)


@pytest.mark.parametrize(("start", "end"), [({"a": 1}, {"a": 2, "b": 1}), ({"a": 1, "b": 1}, {"a": 2})])
def test_a_series_absent_at_one_end_raises(start: dict[str, float], end: dict[str, float]) -> None:
    """A series that was not there at the start has not counted from zero as far as anybody knows."""
    client, _ = client_of(counter_server(start, end))
    with pytest.raises(NoDataError):
        client.counter_delta("c", 10, 20)


RELOADED = (
    b"prometheus_config_last_reload_success_timestamp_seconds 1.7e+09\nprometheus_config_last_reload_successful 0\n"
)


def test_the_last_reload_is_reported() -> None:
    """Prometheus goes on with the old configuration after a refused reload; silence would measure the wrong arm."""
    client, _ = client_of(lambda *_: (200, RELOADED))
    assert client.last_reload() == (1.7e9, False)
    client, _ = client_of(lambda *_: (200, b"up 1\n"))
    with pytest.raises(PrometheusError, match="not as Prometheus"):
        client.last_reload()


@pytest.mark.parametrize(
    "data",
    [{}, [], None, {"alerts": None}, {"alerts": [7]}, {"alerts": [{"state": "firing"}]}, {"alerts": [{"labels": {}}]}],
    ids=repr,
)
def test_what_fires_is_reported_or_it_is_no_prometheus(data: Any) -> None:
    """An odd answer must not pass for "nothing fires": an alert's end would be believed."""
    client, _ = client_of(lambda *_: (200, json.dumps({"status": "success", "data": data}).encode()))
    with pytest.raises(PrometheusError):
        client.firing()


def test_only_what_fires_is_reported() -> None:
    """A pending alert asks for nothing yet."""
    alerts = [{"state": state, "labels": {"alertname": state}} for state in ("firing", "pending", "inactive")]
    client, _ = client_of(lambda *_: (200, json.dumps({"status": "success", "data": {"alerts": alerts}}).encode()))
    assert client.firing() == [{"alertname": "firing"}]
