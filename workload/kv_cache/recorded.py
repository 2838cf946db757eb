"""Calls of a run that recorded its prompts, with the token ids and the order that the engine saw."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, cast

from pydantic import TypeAdapter

from workload.errors import UsageError
from workload.files.enclosed import run_folder
from workload.kv_cache.prompts_file import ChatMessage
from workload.kv_cache.simulated import ORIGIN as SIMULATED
from workload.kv_cache.simulated import PHASE
from workload.kv_cache.source import CUDA_BLOCK_SIZE, CallSource, SentCall
from workload.record import journal, manifest
from workload.record.results import read_run
from workload.theory.reuse_bound import TOKEN_TYPE
from workload.theory.structure import AgentCall

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workload.engine.message import Message

SWEEP = "sweep"
CHAT = TypeAdapter(tuple[ChatMessage, ...])


def read_recorded(results: Path, run: str) -> CallSource:
    """Return the successful calls of a run that count, without sweeps, by arm.

    Raises:
        UsageError: there is no such run, or it was not recorded with `--record-prompts`.
    """
    folder = run_folder(results, run)
    found = manifest.manifest_in(folder)
    engines = {part.window.arm: part.engine for part in found.measured}
    sizes = {engine.block_size for engine in engines.values()}
    if len(sizes) > 1:
        raise UsageError(f"The engines of run {run} had different block sizes.", "Compare runs of one block size.")
    with manifest.readable(run):
        calls, origin = read_calls(folder / "journal.sqlite"), _origin(run, found)
    return CallSource(
        kind="recorded",
        origin=origin,
        arms=calls,
        block_size=next(iter(sizes), None) or CUDA_BLOCK_SIZE,
        engines=engines,
    )


def read_calls(path: Path) -> dict[str, list[SentCall]]:
    """Return the recorded calls that count in a journal by arm, in the order of sending.

    Raises:
        UsageError: the file has no texts, or is not a journal.
    """
    texts = {row["call"]: row for row in journal.read(path, "call_text")}
    if not texts:
        raise UsageError(f"{path} has no prompts.", "Record a run with --record-prompts first.")
    arms: dict[str, list[SentCall]] = {}
    calls = [row for row in read_run(path, ()).calls if row["type"] != SWEEP and row["id"] in texts]
    for row in sorted(calls, key=lambda row: (row["started_at"], row["id"])):
        arms.setdefault(row["arm"], []).append(_sent(row, texts[row["id"]]))
    return arms


def _sent(row: Mapping[str, Any], text: Mapping[str, Any]) -> SentCall:
    # Each start of an engine has a new cache, and each load has its own salt.
    salt = f"{row['block']}/{row['phase']}/{row['segment']}"
    prompt, output = (array(TOKEN_TYPE, text[name]) for name in ("prompt_ids", "output_ids"))
    is_real = row["phase"] != PHASE
    return SentCall(
        AgentCall(row["question_id"], row["node"], row["hop"], prompt, output, salt=salt),
        cast("tuple[Message, ...]", tuple(message.model_dump() for message in CHAT.validate_json(text["messages"]))),
        (row["started_at"], row["started_at"] + row["duration_seconds"]) if is_real else None,
        row["reusable_tokens"],
        row["cached_tokens"],
    )


def _origin(run: str, found: manifest.Manifest) -> str:
    if found.experiment == "kv-cache":
        return f"{SIMULATED}; from run {run}"
    settings = found.known_settings
    texts = f"a REPLAY of {settings.load.replay}" if settings.load.replay else "prompts as sent"
    return f"recorded run {run} ({found.experiment}, layout {settings.agent.layout}): {texts}"
