"""What a soak asks of Prometheus."""

from __future__ import annotations

COUNTER = "vllm:prompt_tokens_total"
"""Grows with every call, so that a restart of the engine shows as a reset."""

TARGET = "up"
"""1 for each scrape that went well. Prometheus dates it, so that no clock of the runner's is needed."""

WHOLE = "31d"
"""Longer than any soak: the run's own label bounds what is found."""
