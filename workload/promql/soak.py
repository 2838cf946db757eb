"""What a soak asks of Prometheus."""

from __future__ import annotations

COUNTER = "vllm:prompt_tokens_total"
"""Grows with every call, so that a restart of the engine shows as a reset."""
