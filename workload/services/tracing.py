"""Exports the agent's spans to an OpenTelemetry collector, if one is named; off by default."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.agent.spans import AgentTracer
from workload.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AGENT = "Hop2Rag"
# The standard variables for the protocol; the first that is set wins.
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@contextmanager
def exported_spans(endpoint: str | None, environ: Mapping[str, str] = os.environ) -> Iterator[AgentTracer]:
    """Yield a factory of spans, which are exported by gRPC; the last ones are exported when the block ends.

    If the collector does not answer, its spans are lost and the exporter logs it; the run continues.

    Without an `endpoint`, the collector's URL, nothing is exported.

    Raises:
        MissingExtraError: the extra `otel` is not installed.
        UsageError: a variable asks for a protocol other than gRPC.
    """
    if endpoint is None:
        yield AgentTracer()
        return
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "grpc")
    if protocol != "grpc":
        raise UsageError(f"Spans cannot be exported by {protocol}, only by gRPC.", f"Unset {' and '.join(PROTOCOLS)}.")
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("Spans need the OpenTelemetry SDK.", "otel") from error
    service = environ.get("OTEL_SERVICE_NAME", AGENT.lower())
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    try:
        yield AgentTracer(provider.get_tracer("hop2rag"), AGENT)
    finally:
        provider.shutdown()
