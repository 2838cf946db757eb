"""Exports the agent's spans to an OpenTelemetry collector, where that is asked for; off by default."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.agent.spans import AgentTracer
from workload.errors import MissingPartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

AGENT = "Hop2Rag"
# The standard variables for a protocol; the first that is set wins.
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


@contextmanager
def exported_spans(endpoint: str | None, environ: Mapping[str, str] = os.environ) -> Iterator[AgentTracer]:
    """Yield what starts spans; they are exported by gRPC, and the last of them when the block ends.

    A collector that does not answer costs its spans, never the run: the exporter logs it.

    Args:
        endpoint: the collector's URL; without one nothing is exported.
        environ: holds OpenTelemetry's variables.

    Raises:
        MissingPartError: the extra `otel` is not installed.
        UsageError: a variable asks for a protocol other than gRPC.
    """
    if endpoint is None:
        yield AgentTracer()
        return
    protocol = next((environ[name] for name in PROTOCOLS if environ.get(name)), "grpc")
    if protocol != "grpc":
        raise UsageError(f"Spans are exported by gRPC, not by {protocol}.", f"Unset {' and '.join(PROTOCOLS)}.")
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - optional
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise MissingPartError(
            "Spans need the OpenTelemetry SDK.", 'Install it: pip install ".[otel]" in a checkout.'
        ) from error
    service = environ.get("OTEL_SERVICE_NAME", AGENT.lower())
    provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    try:
        yield AgentTracer(provider.get_tracer("hop2rag"), AGENT)
    finally:
        provider.shutdown()


def engine_flags(endpoint: str | None) -> tuple[str, ...]:
    """Return the flags with which vLLM exports its own spans to the same collector."""
    return ("--otlp-traces-endpoint", endpoint) if endpoint else ()
