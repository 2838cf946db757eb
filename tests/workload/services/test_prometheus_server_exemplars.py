"""A trace id on its way from a histogram of the agent into our Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry, Histogram

from exporter.web.server import MetricsServer
from tests.stubs.waiting import until
from workload.paths import cache_dir
from workload.services.process import free_port
from workload.services.prometheus_binary import find_prometheus
from workload.services.prometheus_server import LocalPrometheus, loopback_session
from workload.services.targets import ArmLabels

if TYPE_CHECKING:
    from pathlib import Path

TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c"}


@pytest.mark.prometheus
def test_our_prometheus_keeps_what_a_traced_agent_serves(tmp_path: Path) -> None:
    """The format, the request and the feature must all fit; each of them alone drops the exemplar in silence."""
    registry = CollectorRegistry()
    name = "hop2rag_question_duration_seconds"
    Histogram(name, "Time of a question.", registry=registry).observe(0.3, TRACE)
    session = loopback_session()
    prometheus = LocalPrometheus(find_prometheus(cache_dir()), tmp_path, session, port=free_port())
    with prometheus as server, MetricsServer(registry, has_exemplars=True) as agent:
        server.targets.write(ArmLabels("r", "x", "base"), workload=[agent.start()])

        def kept() -> list[dict[str, Any]]:
            asked = {"query": f"{name}_bucket", "start": "0", "end": "9999999999"}
            answer = session.get(f"{server.url}/api/v1/query_exemplars", params=asked, timeout=10).json()
            return [each["labels"] for series in answer["data"] for each in series["exemplars"]]

        until(kept)
        assert kept() == [TRACE]
