"""Says what vLLM's address is: one server, its ranks, a router, or a front that hides its servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.doctor.exposition import PART
from workload.doctor.finding import Finding
from workload.engine.endpoint import open_client
from workload.errors import DependencyDownError, UsageError
from workload.fleet.discovery import discover

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx


def examine_address(endpoint: str, open_: Callable[[str, float], httpx.Client] = open_client) -> list[Finding]:
    """Return what a checked address is; nothing if no server answers there, which the other findings say.

    Behind a router only its engines can be examined: its own pages are those of some engine.
    """
    try:
        found = discover(endpoint, open_)
    except UsageError as error:
        return [Finding(PART, "address", "fault", error.cause, error.remedy)]
    except DependencyDownError as error:
        return [Finding(PART, "address", "fault", error.cause, error.remedy)] if "router" in error.cause else []
    if found.kind != "router":
        return [Finding(PART, "address", "ok", found.sentence())]
    remedy = f"Examine each engine, such as --vllm-endpoint {found.servers[0]}: what follows is one engine's."
    return [Finding(PART, "address", "fault", found.sentence(), remedy)]
