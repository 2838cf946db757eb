"""Simulated trajectories: the real agent and real retrieval, with replies made from the gold facts, without an engine.

Prompts, retrieval, ranking and the loop are the agent's own. Only the replies, a small part of all tokens, are made up.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from exporter.agent.busy import BusySeconds
from exporter.agent.instruments import AgentMetrics
from exporter.agent.recorder import Recorder
from exporter.agent.usage import Usage
from exporter.timeline import NodeActivity
from workload.agent.graph import Hop2Rag
from workload.agent.llm import Llm
from workload.agent.metering import Meter, QuestionMeter
from workload.agent.nodes import Hop2RagNodes
from workload.agent.prompts import LAYOUTS
from workload.agent.retrieval import Retrieval
from workload.agent.reuse_order import ReuseOrder
from workload.agent.state import LLM_NODES, NODES
from workload.errors import UsageError
from workload.harness.driver import Driver, Phase
from workload.harness.health_gate import EngineGate
from workload.harness.loops import Tally
from workload.kv_cache.reader import PerfectReader
from workload.kv_cache.source import SentCall
from workload.theory.structure import AgentCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import BaseModel
    from rich.progress import Progress

    from workload.agent.replay import Script
    from workload.corpus.document import DocumentStore
    from workload.corpus.embedding import Embedder
    from workload.corpus.hotpotqa import Question
    from workload.corpus.tokenizer import ChatTokenizer
    from workload.engine.message import Message
    from workload.record.journal import Journal
    from workload.settings import Settings

    Speak = Callable[[QuestionMeter, str, int, Sequence[Message]], str]

PHASE = "simulated"
REPLAYED = "REPLAYED replies of run {run} in every layout; retrieval is real"
ORIGIN = "SIMULATED replies from the gold facts; retrieval is real"


@dataclass(frozen=True)
class SimulatedLlm(Llm):
    """A language model without requests: `speak` returns its replies.

    Each call is metered like a real one, but without times, and added to `sent` with its token ids.
    """

    client: Any = None
    model: str = PHASE
    tokenizer: ChatTokenizer = field(kw_only=True)
    speak: Speak = field(kw_only=True)
    sent: list[SentCall] = field(default_factory=list)

    async def complete(
        self,
        question: QuestionMeter,
        node: str,
        hop: int,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        schema: type[BaseModel] | None = None,  # noqa: ARG002 - the replies follow it anyway
    ) -> str:
        """Return the reply's text, cut at `max_tokens` as the engine would."""
        with question.call(node, hop) as meter:
            prompt = self.tokenizer.prompt_ids(messages)
            text = self.speak(question, node, hop, messages)
            output, text = self.tokenizer.reply(text, max_tokens)
            end = "stop" if output[-1] == self.tokenizer.end_id else "length"
            meter.prompt_ids(prompt)
            meter.finished(Usage(len(prompt), len(output), None, end), output)
            meter.said(messages, text)
        self.sent.append(SentCall(AgentCall(question.question_id, node, hop, prompt, output), tuple(messages)))
        return text


def from_gold_facts(questions: Sequence[Question]) -> Speak:
    """Return the replies of a perfect reader to these questions."""
    readers = {question.id: PerfectReader.of(question) for question in questions}
    return lambda question, node, hop, messages: readers[question.question_id].reply(node, hop, messages)


def from_record(script: Script) -> Speak:
    """Return the replies of a recorded run, call by call.

    Raises:
        UsageError: at a call that the recorded run does not have, because limits or documents differ.
    """

    def speak(question: QuestionMeter, node: str, hop: int, _: Sequence[Message]) -> str:
        replies, position = script[question.question_id], len(question.calls)
        if position >= len(replies) or replies[position].node != node:
            raise UsageError(
                f"The recorded run has no {node} at hop {hop} of question {question.question_id}.",
                "Use the recorded run's --max-hops.",
            )
        return replies[position].reply

    return speak


def simulate(
    questions: Sequence[Question],
    speak: Speak,
    *,
    store: DocumentStore,
    embedder: Embedder,
    tokenizer: ChatTokenizer,
    settings: Settings,
    block_size: int,
    journal: Journal,
    progress: Progress,
) -> dict[str, list[SentCall]]:
    """Ask all questions in each layout, one after the other, and return the calls by layout.

    The journal gets the questions with their scores, and the calls; the times are not those of an engine.
    """
    metrics = AgentMetrics(CollectorRegistry(), NODES, LLM_NODES)
    found: dict[str, list[SentCall]] = {}
    for layout in LAYOUTS:
        llm = SimulatedLlm(tokenizer=tokenizer, speak=speak)
        retrieval = Retrieval(embedder, store, settings.agent.k)
        nodes = Hop2RagNodes(llm, retrieval, max_hops=settings.agent.max_hops, layout=layout)
        recorder = Recorder(metrics=metrics, activity=NodeActivity(lambda: 0), busy=BusySeconds())
        meter = Meter(recorder, ReuseOrder(block_size), journal, settings.load.record_prompts)
        driver = Driver(Hop2Rag(nodes), meter, EngineGate(lambda: None))
        task = progress.add_task(f"{layout}: simulated", total=len(questions))
        phase = Phase(arm=layout, block=0, name=PHASE, segment=0, salt="")
        asyncio.run(
            driver.run(phase, questions, 1, tally=Tally(len(questions)), advance=partial(progress.advance, task))
        )
        found[layout] = llm.sent
    return found
