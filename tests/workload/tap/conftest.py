"""A deterministic vLLM, a tap before it, and a client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.stubs.answers import AnsweringVllm
from workload.tap.standalone import open_tap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workload.tap.serving import Tap


@pytest.fixture(scope="module")
def vllm() -> Iterator[AnsweringVllm]:
    """A server that answers the same request with the same bytes."""
    with AnsweringVllm() as server:
        yield server


@pytest.fixture(scope="module")
def tap(vllm: AnsweringVllm) -> Iterator[Tap]:
    """A tap before it."""
    with open_tap(vllm.url, port=0, prompts=None) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client without proxies."""
    with httpx.Client(trust_env=False, timeout=30) as found:
        yield found
