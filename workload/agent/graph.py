"""Hop2Rag as a LangGraph app, and the answer to one question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from langgraph.errors import GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime  # noqa: TC002 - LangGraph resolves the annotation at run time

from workload.agent.llm import LlmError
from workload.agent.metering import QuestionMeter
from workload.agent.state import NODES, Hop2RagState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from langgraph.graph.state import CompiledStateGraph

    from workload.agent.nodes import Changes, Hop2RagNodes

    Node = Callable[[Hop2RagState, QuestionMeter], Awaitable[Changes]]

LOOP_NODES = 6  # decompose, retrieve, grade, accumulate, extract_clues, decide
OTHER_NODES = 5  # initialize, the decompose that replies DONE, generate, extract_supporting_facts, finalize


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a question. `reason` is why it failed, None if it succeeded."""

    answer: str
    supporting_facts: tuple[tuple[str, int], ...]
    hops: int
    termination: str
    trajectory: dict[str, Any]
    reason: str | None = None


class App(Protocol):
    """What is driven: it answers what a row of questions gives it. Hop2Rag is one; `workload.app` has any other."""

    async def answer(self, given: Mapping[str, Any], meter: QuestionMeter) -> Answer:
        """Answer; a failure is a result with a reason."""
        ...


def metered(name: str, node: Node) -> Callable[..., Awaitable[Changes]]:
    """Return the node as LangGraph calls it, with its visit metered from its real start to its real end."""

    async def visit(state: Hop2RagState, *, runtime: Runtime[QuestionMeter]) -> Changes:
        with runtime.context.node(name, state.get("hop", 1)):
            return await node(state, runtime.context)

    return visit


class Hop2Rag:
    """The compiled graph."""

    def __init__(self, nodes: Hop2RagNodes) -> None:
        self._app = build(nodes)
        # LangGraph's default of some ten thousand steps would let a runaway loop run for hours.
        self._recursion_limit = OTHER_NODES + LOOP_NODES * nodes.max_hops

    async def answer(self, given: Mapping[str, Any], meter: QuestionMeter) -> Answer:
        """Answer a question. A failed LLM call or an endless loop is a result with a reason."""
        state = cast("Hop2RagState", given)
        reason = None
        try:
            async for values in self._app.astream(
                state,
                config={"recursion_limit": self._recursion_limit},
                context=meter,
                stream_mode="values",
            ):
                state = cast("Hop2RagState", values)
        except LlmError as error:
            reason = error.reason
        except GraphRecursionError:
            reason = "recursion_limit"
        finally:
            if draft := state.get("draft"):
                draft.drop(meter, "unneeded")
        return Answer(
            answer=state.get("answer", ""),
            supporting_facts=tuple(state.get("supporting_facts", ())),
            hops=len(state.get("queries", ())),
            termination="error" if reason else state["termination"],
            trajectory={"queries": state.get("queries", []), "clues": state.get("clues", [])},
            reason=reason,
        )


def build(nodes: Hop2RagNodes) -> CompiledStateGraph[Hop2RagState, QuestionMeter, Any, Any]:
    """Return the compiled app: decompose, retrieve, grade, accumulate, extract clues, decide; repeat or generate."""
    graph = StateGraph(Hop2RagState, context_schema=QuestionMeter)
    for name in NODES:
        graph.add_node(name, metered(name, getattr(nodes, name)))
    graph.add_edge(START, "initialize")
    graph.add_edge("initialize", "decompose")
    graph.add_conditional_edges("decompose", _after_decompose, ["retrieve", "generate"])
    for before, after in (
        ("retrieve", "grade"),
        ("grade", "accumulate"),
        ("accumulate", "extract_clues"),
        ("extract_clues", "decide"),
        ("generate", "extract_supporting_facts"),
        ("extract_supporting_facts", "finalize"),
        ("finalize", END),
    ):
        graph.add_edge(before, after)
    graph.add_conditional_edges("decide", _after_decide, ["decompose", "generate"])
    return graph.compile(name="Hop2Rag")


def _after_decompose(state: Hop2RagState) -> str:
    return "generate" if state["termination"] else "retrieve"


def _after_decide(state: Hop2RagState) -> str:
    return "generate" if state["termination"] else "decompose"
