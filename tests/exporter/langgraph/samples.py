"""What a handler's registry contains, as the tests ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.langgraph import MeteringHandler

NODES = ("retrieve", "grade", "rewrite", "generate")
"""The nodes of the corrective RAG."""


def value(handler: MeteringHandler, name: str, **labels: str) -> float | None:
    """Return a sample's value, None when there is none."""
    return handler.registry.get_sample_value(name, labels)


def by_node(handler: MeteringHandler, name: str) -> list[float | None]:
    """Return a sample's value for each node."""
    return [value(handler, name, node=node) for node in NODES]


def series(handler: MeteringHandler) -> set[tuple[str, ...]]:
    """Return every series by name and labels."""
    samples = (sample for family in handler.registry.collect() for sample in family.samples)
    return {(sample.name, *sample.labels.values()) for sample in samples}
