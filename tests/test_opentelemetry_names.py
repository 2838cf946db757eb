"""The names of OpenTelemetry that the documentation and the spans use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes

from exporter.agent import spans

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "opentelemetry.md").read_text()
OURS, _, OF_VLLM = DOCUMENT.partition("vLLM's attributes follow")
NAMED = set(re.findall(r"`((?:gen_ai|error)\.[a-z_.]+)`", OURS))


def values(*modules: ModuleType) -> set[str]:
    """Return the names that these modules define as constants."""
    constants = (value for module in modules for name, value in vars(module).items() if name.isupper())
    return {value for value in constants if isinstance(value, str)}


CONVENTIONS = values(gen_ai_attributes, gen_ai_metrics, error_attributes)


def test_every_name_is_one_of_the_conventions() -> None:
    """A backend finds nothing under a name that is nearly right."""
    assert len(NAMED) > 15
    assert CONVENTIONS >= NAMED


def test_every_metric_of_the_conventions_is_mapped() -> None:
    """A reader must be able to look up each of them, if only to find that there is none here."""
    metrics = {name for name in values(gen_ai_metrics) if name.startswith(("gen_ai.client", "gen_ai.server"))}
    assert len(metrics) >= 7
    assert metrics - NAMED == set()


def test_the_spans_use_these_names() -> None:
    """The constants are written out in our code, for the package that has them is still in development."""
    ours = values(spans)
    assert len(ours) == 9
    assert ours <= CONVENTIONS & NAMED


def test_operations_are_those_of_the_conventions() -> None:
    """Backends group by the operation."""
    known = {operation.value for operation in gen_ai_attributes.GenAiOperationNameValues}
    documented = re.findall(r"`gen_ai\.operation\.name` = ([a-z_, ]+)", DOCUMENT)
    assert {name for row in documented for name in row.strip().split(", ")} == {
        "chat",
        "invoke_agent",
        *spans.STAGE_OPERATIONS.values(),
    }
    assert {"chat", "invoke_agent", *spans.STAGE_OPERATIONS.values()} <= known


def test_our_metrics_and_vllms_exist() -> None:
    """The right-hand column is worth no more than the left."""
    ours = set(re.findall(r"`(hop2rag_[a-z_]+)`", DOCUMENT))
    assert ours <= set(re.findall(r"^\| `(hop2rag_[a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    served = (ROOT / "tests" / "fixtures" / "vllm" / "vllm_0.32.0_cpu.prom").read_text()
    assert set(re.findall(r"`(vllm:[a-z_0-9]+)`", DOCUMENT)) <= set(re.findall(r"# TYPE (\S+)", served))
