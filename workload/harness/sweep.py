"""Calls of controlled prompt length: documents are added until the prompt is about long enough."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from workload.agent.llm import LlmError
from workload.agent.prompts import INSTRUCTIONS
from workload.corpus.tokenizer import tokenizing
from workload.engine.endpoint import open_client

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from workload.engine.launcher import RunningEngine
    from workload.engine.message import Message
    from workload.harness.driver import Phase
    from workload.harness.loops import Tally
    from workload.harness.system_under_test import SystemUnderTest

NODE = "generate"
# Enough steps for a time per token, and a decode that a scrape every 100 ms sees.
GENERATED_TOKENS = 32
TOKENIZE_TIMEOUT_SECONDS = 30.0
# Enough for a ratio within a percent, and short of every context limit.
SAMPLE_CHARS = 20_000


async def sweep(
    under_test: SystemUnderTest,
    engine: RunningEngine,
    phase: Phase,
    contexts: Sequence[int],
    texts: Sequence[str],
    *,
    tally: Tally,
    advance: Callable[[], None],
    done: Collection[str],
) -> None:
    """Make one call per length, one after the other, each under its own cache salt, so that nothing is cached.

    The agent's own prompts are short, so the cost of a long context shows only if one is sent. The lengths are targets:
    the real length of a prompt is in the server's usage. Each call is one question in the journal, named by its place
    and its length; the calls in `done` were made before an interruption.

    Raises:
        DependencyDownError: the engine stopped answering.
    """
    chars_per_token = calibrate(engine, prompt(texts, SAMPLE_CHARS)[0]["content"])
    for position, length in enumerate(contexts):
        if (name := question_id(position, length)) in done:
            continue
        meter = under_test.meter.question("0", "sweep", f"{phase.salt}-{position}")
        meter.open({**phase.place, "question_id": name, "attempt": phase.sent_before.get(name, 0) + 1})
        messages = prompt(texts, int(length * chars_per_token))
        reason = None
        tally.sent += 1
        try:
            await under_test.llm.compute(meter, NODE, 1, messages, GENERATED_TOKENS)
        except LlmError as error:
            reason = error.reason
            tally.failed[reason] += 1
            meter.close("failed", "error", 0, {"reason": reason})
        except BaseException:
            tally.cancelled += 1
            meter.close("cancelled", "error", 0, {})
            raise
        else:
            tally.ok += 1
            meter.close("ok", "done", 0, {})
        await under_test.meter.acknowledge()
        advance()
        await under_test.driver.gate.check(reason)


def question_id(position: int, length: int) -> str:
    """Return the name of a call in the journal."""
    return f"sweep-{position}-{length}"


def prompt(texts: Sequence[str], chars: int) -> list[Message]:
    """Return the messages of a call whose documents have `chars` characters."""
    documents = ""
    for text in cycle(texts):
        if len(documents) >= chars:
            break
        documents += f"{text}\n"
    return [{"role": "user", "content": f"Passages:\n{documents[:chars]}\n\n{INSTRUCTIONS[NODE]}"}]


def calibrate(engine: RunningEngine, sample: str) -> float:
    """Return the characters per token of `sample`, by the server's own tokenizer; raises as `tokenizing`."""
    with open_client(engine.endpoint, TOKENIZE_TIMEOUT_SECONDS, key=engine.key) as client, tokenizing(client):
        body = {"model": engine.facts.model, "prompt": sample}
        return len(sample) / int(client.post("/tokenize", json=body).raise_for_status().json()["count"])
