"""The names of an app's nodes, those of its subgraphs included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def node_names(nodes: Iterable[str]) -> list[str]:
    """Return the names of nodes and, of nodes with subgraphs, those of the subgraphs' nodes, each once.

    Args:
        nodes: names, or an app's `nodes`. LangGraph's own (`__start__`) are left out.
    """
    found: dict[str, None] = {}
    level: list[Any] = [nodes]
    seen: set[int] = set()
    while level:
        graph = level.pop(0)
        if id(graph) in seen:
            continue
        seen.add(id(graph))
        found |= dict.fromkeys(name for name in graph if not name.startswith("__"))
        if hasattr(graph, "values"):
            subgraphs = [subgraph for node in graph.values() for subgraph in getattr(node, "subgraphs", ())]
            level += [getattr(subgraph, "nodes", ()) for subgraph in subgraphs]  # a remote one does not say
    return list(found)
