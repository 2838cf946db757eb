"""The HTTP client that the agent's LLM calls go through."""

from __future__ import annotations

import httpx2
import openai

from workload.services.trust import trusted

CONNECT_TIMEOUT_SECONDS = 5.0
# vLLM closes a connection after 5 s without a request (VLLM_HTTP_TIMEOUT_KEEP_ALIVE); no call may start at that moment.
KEEP_ALIVE_SECONDS = 4.0
MAX_CONNECTIONS = 1024


def llm_client(endpoint: str, timeout_seconds: float, key: str | None = None) -> openai.AsyncOpenAI:
    """Return a client of the engine at `endpoint` that never retries by itself; `key` is the engine's API key.

    It uses aiohttp: the default transport probes every idle connection before each call, which doubles the CPU time of
    a call at 64 concurrent calls (benchmarks/README.md). As in `engine.endpoint`, a proxy would be measured too, and a
    redirect would leave the checked endpoint.
    """
    return openai.AsyncOpenAI(
        base_url=f"{endpoint}/v1",
        api_key=key or "none",
        max_retries=0,
        timeout=openai.Timeout(timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
        http_client=openai.DefaultAioHttpClient(
            verify=trusted(),
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE_SECONDS),
        ),
    )
