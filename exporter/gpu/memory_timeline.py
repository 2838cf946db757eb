"""Every memory sample of the GPUs with its own timestamp, for /metrics/timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.timeline import MEMORY_USED, MEMORY_USED_HELP, WINDOW_MS, encode_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.gpu.latest import GpuRecord


def expose_memory(records: Iterable[GpuRecord], now_ms: int, window_ms: int = WINDOW_MS) -> bytes:
    """Return every memory sample of the last `window_ms`, ascending within each GPU."""
    lines = [encode_header(MEMORY_USED, MEMORY_USED_HELP)]
    since_ms = now_ms - window_ms
    for record in records:
        prefix = f'{MEMORY_USED}{{gpu="{record.info.gpu}"}} '
        recent = [sample for sample in record.timeline if sample.ts_ms > since_ms]
        lines += [f"{prefix}{sample.used_bytes} {sample.ts_ms}\n" for sample in recent]
    return "".join(lines).encode()
