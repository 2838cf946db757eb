"""A stub server and a client of it for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.stubs.agent import client_of
from tests.stubs.vllm import StubVllm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import openai


@pytest.fixture
def stub() -> Iterator[StubVllm]:
    """Return a running stub server."""
    with StubVllm() as server:
        yield server


@pytest_asyncio.fixture
async def client(stub: StubVllm) -> AsyncIterator[openai.AsyncOpenAI]:
    """Return a client of the stub server."""
    async with client_of(stub.url) as opened:
        yield opened
