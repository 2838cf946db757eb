"""Shapes of apps around and inside graphs: functions, agents with tools, chains, caches, and work in the background."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph.types import interrupt

from tests.exporter.langgraph.bench import App, Bench, State, graph
from tests.exporter.langgraph.shapes import YES, shape

if TYPE_CHECKING:
    from collections.abc import Callable


def look(bench: Bench, node: str = "look", **options: Any) -> Callable[..., Any]:
    """Return a task that calls its model."""
    call = bench.calls(node)

    def plain(text: str) -> int:
        return int(call.invoke({"text": text})["count"])

    async def awaited(text: str) -> int:
        return int((await call.ainvoke({"text": text}))["count"])

    return task(name=node, **options)(bench.either(plain, awaited))


def flow(bench: Bench, plain: Callable[..., Any], awaited: Callable[..., Any], **options: Any) -> App:
    """Return an app that is a function."""
    function = bench.either(plain, awaited)
    function.__name__ = "flow"
    return entrypoint(**options)(function)


@shape(visits={"flow": 1, "look": 2}, hops=2)
def tasks_in_a_row(bench: Bench) -> App:
    """Return a function that runs a task twice."""
    searching = look(bench)

    def plain(state: State) -> int:
        return int(searching(state["text"]).result() + searching("again").result())

    async def awaited(state: State) -> int:
        return int(await searching(state["text"]) + await searching("again"))

    return flow(bench, plain, awaited)


@shape(visits={"flow": 1, "look": 2, "read": 1}, hops=2)
def tasks_at_the_same_time(bench: Bench) -> App:
    """Return a function that starts three tasks before it waits for them."""
    searching, reading = look(bench), look(bench, "read")

    def plain(state: State) -> int:
        return sum(future.result() for future in [searching(state["text"]), searching("2"), reading("3")])

    async def awaited(state: State) -> int:
        return sum(await asyncio.gather(searching(state["text"]), searching("2"), reading("3")))

    return flow(bench, plain, awaited)


@shape(visits={"flow": 1, "look": 1}, turns=(None, YES))
def a_function_that_waits_for_a_person(bench: Bench) -> App:
    """Return a function that asks a person after a task, whose result is kept."""
    searching = look(bench)

    def plain(state: State) -> str:
        return f"{searching(state['text']).result()}{interrupt('ok?')}"

    async def awaited(state: State) -> str:
        return f"{await searching(state['text'])}{interrupt('ok?')}"

    return flow(bench, plain, awaited, checkpointer=InMemorySaver())


@shape(visits={"flow": 1, "ask": 1}, turns=(None, YES))
def a_task_that_waits_for_a_person(bench: Bench) -> App:
    """Return a function whose task asks a person."""
    call = bench.calls("flow")
    ask = task(name="ask")(bench.either(lambda: interrupt("ok?"), asking))

    def plain(state: State) -> str:
        call.invoke(state)
        return str(ask().result())

    async def awaited(state: State) -> str:
        await call.ainvoke(state)
        return str(await ask())

    return flow(bench, plain, awaited, checkpointer=InMemorySaver())


async def asking() -> Any:
    """Ask a person."""
    return interrupt("ok?")


@shape(visits={"flow": 1, "inner": 1})
def a_function_around_a_graph(bench: Bench) -> App:
    """Return a function that invokes a graph."""
    inner = graph(("inner", bench.calls("inner")))

    def plain(state: State) -> Any:
        return inner.invoke(state)

    async def awaited(state: State) -> Any:
        return await inner.ainvoke(state)

    return flow(bench, plain, awaited)


def tool_of(inner: App | None = None) -> StructuredTool:
    """Return a tool that runs something, or nothing."""

    def search(text: str) -> str:
        """Search."""
        return str(inner.invoke({"text": text})) if inner else text

    async def asearch(text: str) -> str:
        """Search."""
        return str(await inner.ainvoke({"text": text})) if inner else text

    return StructuredTool.from_function(search, coroutine=asearch, name="search", description="Search.")


def agent_of(bench: Bench, inner: App | None = None, **options: Any) -> App:
    """Return LangGraph's agent with a tool, which it uses once."""
    return create_react_agent(bench.chat("agent", tool="search"), [tool_of(inner)], **options)


def messages(state: Any) -> Any:
    """Return the agent's input."""
    return {"messages": [("user", state["text"])]}


@shape(visits={"agent": 2, "tools": 1}, hops=2)
def an_agent_with_a_tool(bench: Bench) -> App:
    """Return the agent, behind a function that asks it."""
    return RunnableLambda(messages) | agent_of(bench)


@shape(visits={"worker": 1, "agent": 2, "tools": 1, "last": 1}, hops=2)
def an_agent_as_a_node(bench: Bench) -> App:
    """Return a graph with the agent as a node."""
    worker = RunnableLambda(messages) | agent_of(bench) | (lambda _: {"count": 1})
    return graph(("worker", worker), ("last", bench.calls("last")))


@shape(visits={"agent": 2, "tools": 1}, hops=2)
def a_tool_that_calls_a_model(bench: Bench) -> App:
    """Return the agent with a tool that calls a model of its own."""
    return RunnableLambda(messages) | agent_of(bench, bench.calls("tools"))


@shape(visits={"agent": 2, "tools": 1, "inner": 1}, hops=2)
def a_tool_that_runs_a_graph(bench: Bench) -> App:
    """Return the agent with a tool that runs another graph."""
    return RunnableLambda(messages) | agent_of(bench, graph(("inner", bench.calls("inner"))))


def attached(bench: Bench, app: App) -> App:
    """Return an app that carries the handler itself."""
    return app.with_config(callbacks=[bench.handler])


@shape(visits={"speak": 1})
def inside_an_unmetered_chain(bench: Bench) -> App:
    """Return a chain that knows nothing of the handler of the app in it."""
    return RunnableLambda(lambda state: state) | attached(bench, one_of(bench)) | RunnableLambda(str)


@shape(visits={"speak": 1})
def inside_an_unmetered_tool(bench: Bench) -> App:
    """Return a tool that runs a metered app."""
    return tool_of(attached(bench, one_of(bench)))


@shape(visits={"speak": 1})
def inside_a_metered_tool(bench: Bench) -> App:
    """Return a tool that runs an app; LangChain does not report the end of a tool that is cancelled."""
    return tool_of(one_of(bench))


@shape(visits={"speak": 1})
def inside_an_unmetered_graph(bench: Bench) -> App:
    """Return a graph with a metered graph as a node."""
    return graph(("outer", attached(bench, one_of(bench))))


@shape(visits={"speak": 1})
def on_the_app_and_on_the_model(bench: Bench) -> App:
    """Return a graph with the handler on itself and on its model."""
    model = bench.chat("speak").with_config(callbacks=[bench.handler])
    return attached(bench, graph(("speak", RunnableLambda(lambda state: state["text"]) | model | (lambda _: {}))))


def one_of(bench: Bench, node: str = "speak") -> App:
    """Return a graph of one node."""
    return graph((node, bench.calls(node)))


@shape(visits={"speak": 1})
def a_chain_in_a_node(bench: Bench) -> App:
    """Return a graph whose node is a chain of prompt, model and parser."""
    chain = ChatPromptTemplate.from_template("Say {text}") | bench.chat("speak") | StrOutputParser()
    return graph(("speak", chain | (lambda text: {"said": text})))


@shape(visits={"speak": 1})
def two_chains_at_once(bench: Bench) -> App:
    """Return a graph whose node calls two models at the same time."""
    prompt = ChatPromptTemplate.from_template("Say {text}")
    return graph(("speak", RunnableParallel(a=prompt | bench.chat("speak"), b=bench.calls("speak")) | (lambda _: {})))


@shape(visits={"speak": 1})
def a_batch_in_a_node(bench: Bench) -> App:
    """Return a graph whose node sends three prompts at once."""
    model = bench.chat("speak")

    def plain(_: State) -> State:
        model.batch(["one", "two", "three"])
        return {"count": 1}

    async def awaited(_: State) -> State:
        await model.abatch(["one", "two", "three"])
        return {"count": 1}

    return graph(("speak", RunnableLambda(plain, awaited)))


@shape(visits={"speak": 1}, errors={"speak": 1})
def a_model_with_a_fallback(bench: Bench) -> App:
    """Return a graph whose first model's server is gone."""
    gone = bench.chat("speak")
    gone.url = "http://127.0.0.1:9"
    model = gone.with_fallbacks([bench.chat("speak")])
    return graph(("speak", RunnableLambda(lambda state: state["text"]) | model | (lambda _: {})))


@shape(visits={"speak": 1})
def a_model_that_does_not_stream(bench: Bench) -> App:
    """Return a graph whose model answers in one piece."""
    return graph(("speak", bench.calls("speak", is_streaming=False)))


@shape(visits={"speak": 2}, hops=2, turns=(None, None), questions=2)
def a_cache_in_the_client(bench: Bench) -> App:
    """Return a graph whose model answers a prompt again from LangChain's cache."""
    return graph(("speak", bench.calls("speak", cache=InMemoryCache(), is_streaming=False)))


@shape(visits={"speak": 1})
def work_in_the_background(bench: Bench) -> App:
    """Return a graph that calls a model without waiting for it."""
    model = bench.chat("speak")

    def plain(state: State) -> State:
        context = copy_context()
        thread = threading.Thread(target=context.run, args=(model.invoke, state["text"]))
        bench.background.append(thread)
        model.invoke("first")
        thread.start()
        return {"count": 1}

    async def awaited(state: State) -> State:
        await model.ainvoke("first")
        bench.background.append(asyncio.create_task(model.ainvoke(state["text"])))
        return {"count": 1}

    builder = StateGraph(State)
    builder.add_node("speak", RunnableLambda(plain, awaited))
    builder.add_edge(START, "speak")
    return builder.compile()


@shape(visits={f"n{number}": 1 for number in range(12)})
def a_dozen_nodes(bench: Bench) -> App:
    """Return a graph of many nodes."""
    return graph(*((f"n{number}", bench.calls(f"n{number}")) for number in range(12)))
