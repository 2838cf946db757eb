"""An OpenTelemetry collector that keeps the spans it is sent, by gRPC as `--otlp-endpoint` does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps spans; `spans` are (service name, span), in order of arrival."""

    url: str = ""
    spans: list[tuple[str, Any]] = field(default_factory=list)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the service's signature
        """Take a batch."""
        for resource in request.resource_spans:
            names = [item.value.string_value for item in resource.resource.attributes if item.key == "service.name"]
            service = names[0] if names else ""
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collector() -> Iterator[Collector]:
    """Serve one on a free port of 127.0.0.1."""
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    collecting = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collecting, server)
    collecting.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collecting
    finally:
        server.stop(None).wait()
