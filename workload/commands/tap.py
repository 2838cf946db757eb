"""`hop2rag tap`."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from workload.commands.options import out


def tap(
    upstream: Annotated[str, typer.Option(help="The vLLM behind the tap, such as http://127.0.0.1:8000.")],
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the tap on 127.0.0.1; 0 for a free one.")
    ] = 8010,
    record_prompts: Annotated[
        bool,
        typer.Option("--record-prompts", help="Keep token ids of prompts and replies, for kv-cache --prompts."),
    ] = False,
    results: Annotated[Path, typer.Option(help="Folder for recorded prompts.")] = Path("results"),
) -> None:
    """Put a proxy before a vLLM that adds hits, the reuse bound and the fates of tokens of any client's calls."""
    from workload.engine.key import read_key  # noqa: PLC0415 - `--help` need not load these
    from workload.tap.standalone import open_tap  # noqa: PLC0415

    prompts = results / "tap" / f"prompts-{time.strftime('%Y%m%d-%H%M%S')}.jsonl" if record_prompts else None
    with open_tap(upstream, port=port, prompts=prompts, key=read_key()) as running:
        out.print(f"OPENAI_BASE_URL={running.url}/v1", soft_wrap=True, markup=False, highlight=False)
        out.print(f"Metrics: {running.url}/metrics", soft_wrap=True, markup=False, highlight=False)
        if prompts:
            out.print(f"Prompts: {prompts}", soft_wrap=True, markup=False, highlight=False)
        out.print("Ctrl-C stops it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            out.print("Stopping.")
