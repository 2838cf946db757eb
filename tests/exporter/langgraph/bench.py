"""What the shapes of apps are built from: nodes, models and tools that know nothing of metering."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from operator import add
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph import START, StateGraph

from tests.stubs.chat import VllmChat

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.langgraph import MeteringHandler

App = Runnable[Any, Any]
Graph = "CompiledStateGraph[Any, Any, Any, Any]"


class State(TypedDict, total=False):
    """The state of the graphs: the question, the number of counts, and the answer of a person."""

    text: str
    count: Annotated[int, add]
    said: str


@dataclass
class Bench:
    """The parts of one app.

    Attributes:
        url, served: the server and its model.
        handler: for shapes that attach it themselves.
        is_async: whether the app will run on an event loop.
        tries: how often something was tried, by question.
        background: threads and tasks that outlive their question.
    """

    url: str
    handler: MeteringHandler
    served: str = "stub"
    is_async: bool = False
    tries: Counter[str] = field(default_factory=Counter)
    background: list[Any] = field(default_factory=list)

    def chat(self, node: str, **more: Any) -> VllmChat:
        """Return a model that is called in a node."""
        return VllmChat(url=self.url, served=self.served, user=node, **more)

    def calls(self, node: str, number: int = 1, **more: Any) -> App:
        """Return a node that calls its model some times, one after the other, and counts one."""
        model = self.chat(node, **more)

        def call(state: Any) -> State:
            for turn in range(number):
                model.invoke(f"{node} {turn} {state['text']}")
            return {"count": 1}

        async def acall(state: Any) -> State:
            for turn in range(number):
                await model.ainvoke(f"{node} {turn} {state['text']}")
            return {"count": 1}

        return RunnableLambda(call, acall)

    def runs(self, inner: App, *, catches: bool = False) -> App:
        """Return a node that runs something else, perhaps whatever it raises, and counts one."""

        def run(state: Any) -> State:
            with suppress(*[ValueError] * catches):
                inner.invoke({"text": state["text"]})
            return {"count": 1, "text": state["text"]}

        async def arun(state: Any) -> State:
            with suppress(*[ValueError] * catches):
                await inner.ainvoke({"text": state["text"]})
            return {"count": 1, "text": state["text"]}

        return RunnableLambda(run, arun)

    def either(self, plain: Callable[..., Any], awaited: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function for the way in which the app will run."""
        return awaited if self.is_async else plain


def graph(*edges: Any, **compiled: Any) -> Graph:
    """Return a compiled graph: nodes as (name, node) or (name, node, options), edges as (from, to)."""
    builder = StateGraph(State)
    last = START
    for part in edges:
        if isinstance(part[1], str):
            builder.add_edge(*part)
            continue
        name, node, *options = part
        builder.add_node(name, node, **(options[0] if options else {}))
        if not (options and "alone" in options):
            builder.add_edge(last, name)
            last = name
    return builder.compile(**compiled)


def gathered(*calls: Any) -> Any:
    """Wait for several calls at once."""
    return asyncio.gather(*calls)
