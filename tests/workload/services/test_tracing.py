"""Where spans go: to a collector by gRPC if that is asked for, else nowhere."""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.stubs.collector import collector
from workload.errors import MissingPartError, UsageError
from workload.harness.backends import launcher_of
from workload.services.tracing import exported_spans
from workload.settings import load_settings


def test_the_collector_gets_every_span() -> None:
    """Spans are sent in batches; those of the last question must not be lost when the run ends."""
    with collector() as collecting, exported_spans(collecting.url, {"OTEL_SERVICE_NAME": "mine"}) as spans:
        root = spans.question()
        spans.node(root, "decide", 2).end()
        root.end()
    assert collecting.spans
    assert [(service, span.name) for service, span in collecting.spans] == [
        ("mine", "decide"),
        ("mine", "invoke_agent Hop2Rag"),
    ]


def test_without_a_collector_nothing_is_recorded() -> None:
    """Off by default means that no SDK is even loaded."""
    with exported_spans(None, {}) as spans:
        assert not spans.question().is_recording()


def test_another_protocol_is_refused() -> None:
    """A collector's HTTP port that is spoken to by gRPC loses every span, with a puzzling line in the log."""
    environ = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with (
        pytest.raises(UsageError, match="by http/protobuf, only by gRPC"),
        exported_spans("http://127.0.0.1:1", environ),
    ):
        pass


def test_a_missing_sdk_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is optional; an import error deep in a run would not name it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with (
        pytest.raises(MissingPartError, match=r"\[otel\]"),
        exported_spans("http://127.0.0.1:1", {}),
    ):
        pass


def test_an_endpoint_is_a_url() -> None:
    """The SDK takes anything and fails at the first export, in the background."""
    sizes = {"limit": 1, "max_hops": 1, "k": 1}
    with pytest.raises(UsageError, match="--otlp-endpoint"):
        load_settings({**sizes, "otlp_endpoint": "127.0.0.1:4317"}, {})
    assert load_settings({**sizes, "otlp_endpoint": "http://127.0.0.1:4317"}, {}).places.otlp_endpoint


def test_the_standard_variables_name_the_collector() -> None:
    """Who has set them for every service should not have to say it again; the one for traces is the more specific."""
    sizes = {"limit": 1, "max_hops": 1, "k": 1}
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://all:4317"}
    assert load_settings(sizes, environ).places.otlp_endpoint == "http://all:4317"
    environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:4317", **environ}
    assert load_settings(sizes, environ).places.otlp_endpoint == "http://traces:4317"
    assert load_settings(sizes, {}).places.otlp_endpoint is None


def test_an_engine_that_is_started_exports_to_the_same_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM's own flag the trace would end where the question of why it took so long begins."""
    started: list[Any] = []
    monkeypatch.setattr("workload.harness.backends.process_launcher", lambda *given, **_: started.append(given[2]))
    for flags in ({}, {"otlp_endpoint": "http://127.0.0.1:4317"}):
        settings = load_settings({"limit": 1, "max_hops": 1, "k": 1, **flags}, {})
        launcher_of(settings.engine, settings.places, Console(file=StringIO()))
    assert started == [(), ("--otlp-traces-endpoint", "http://127.0.0.1:4317")]
