"""Shapes of graphs that people build, each with the facts of one question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, interrupt

from tests.exporter.langgraph.bench import App, Bench, State, graph
from tests.stubs.corrective import Retriever

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALL: list[Shape] = []


@dataclass(frozen=True)
class Shape:
    """A shape of an app.

    Attributes:
        name: its name.
        build: returns the app.
        visits: the successful visits of each node in one question.
        hops: the steps of the node that ran most often, of all questions together.
        turns: the inputs of the app, one after the other in one thread; None stands for the question.
        failures: the visits that fail.
        errors: the calls that fail, by node.
        searches: the calls of a retriever.
        questions: how many questions the turns are.
        outcome: how each ends.
    """

    name: str
    build: Callable[[Bench], App]
    visits: dict[str, int]
    hops: int = 1
    turns: Sequence[Any] = (None,)
    failures: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    searches: int = 0
    questions: int = 1
    outcome: str = "ok"


def shape(**facts: Any) -> Callable[[Callable[[Bench], App]], Callable[[Bench], App]]:
    """Register a function as a shape."""

    def register(build: Callable[[Bench], App]) -> Callable[[Bench], App]:
        ALL.append(Shape(build.__name__, build, **facts))
        return build

    return register


@shape(visits={"speak": 1})
def one_node(bench: Bench) -> App:
    """Return a graph of one node."""
    return graph(("speak", bench.calls("speak")))


@shape(visits={"plan": 1, "work": 1, "answer": 1})
def three_in_a_row(bench: Bench) -> App:
    """Return a graph without a branch; a node calls twice."""
    return graph(("plan", bench.calls("plan")), ("work", bench.calls("work", 2)), ("answer", bench.calls("answer")))


@shape(visits={"work": 3}, hops=3)
def a_loop(bench: Bench) -> App:
    """Return a graph that repeats a node until it has run three times."""
    builder = StateGraph(State)
    builder.add_node("work", bench.calls("work"))
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if state["count"] >= 3 else "work", ["work", END])
    return builder.compile()


@shape(visits={"first": 1, "left": 1, "right": 1, "last": 1})
def two_branches(bench: Bench) -> App:
    """Return a graph with two branches that run at the same time, and meet."""
    builder = StateGraph(State)
    for node in ("first", "left", "right", "last"):
        builder.add_node(node, bench.calls(node))
    for edge in ((START, "first"), ("first", "left"), ("first", "right")):
        builder.add_edge(*edge)
    builder.add_edge(["left", "right"], "last")
    return builder.compile()


@shape(visits={"plan": 1, "work": 4})
def sent_to_workers(bench: Bench) -> App:
    """Return a graph that sends four packets of work to one node."""
    builder = StateGraph(State)
    builder.add_node("plan", bench.calls("plan"))
    builder.add_node("work", bench.calls("work"))
    builder.add_edge(START, "plan")
    sends = lambda state: [Send("work", {"text": f"{state['text']} {part}"}) for part in range(4)]  # noqa: E731
    builder.add_conditional_edges("plan", sends, ["work"])
    return builder.compile()


@shape(visits={"speak": 1, "second": 1})
def goes_on_by_command(bench: Bench) -> App:
    """Return a graph whose node chooses the next one itself."""
    go = bench.calls("speak") | (lambda _: Command(goto="second"))
    builder = StateGraph(State)
    builder.add_node("speak", go, destinations=("second",))
    builder.add_node("second", bench.calls("second"))
    builder.add_edge(START, "speak")
    return builder.compile()


@shape(visits={"outer": 1, "inner": 1, "last": 1})
def a_subgraph(bench: Bench) -> App:
    """Return a graph with a compiled graph as a node."""
    return graph(("outer", graph(("inner", bench.calls("inner")))), ("last", bench.calls("last")))


@shape(visits={"outer": 1, "middle": 1, "inner": 1})
def a_subgraph_of_a_subgraph(bench: Bench) -> App:
    """Return a graph of three levels."""
    return graph(("outer", graph(("middle", graph(("inner", bench.calls("inner")))))))


@shape(visits={"team": 3, "inner": 3})
def sent_to_subgraphs(bench: Bench) -> App:
    """Return a graph that sends three packets of work to a subgraph, in one step."""
    builder = StateGraph(State)
    builder.add_node("team", graph(("inner", bench.calls("inner"))) | (lambda _: {"count": 1}))
    sends = lambda state: [Send("team", {"text": f"{state['text']} {part}"}) for part in range(3)]  # noqa: E731
    builder.add_conditional_edges(START, sends, ["team"])
    return builder.compile()


@shape(visits={"work": 1, "inner": 2}, hops=2)
def a_graph_invoked_twice_in_a_node(bench: Bench) -> App:
    """Return a graph that invokes another twice in one visit."""
    inner = bench.runs(graph(("inner", bench.calls("inner"))))
    return graph(("work", inner | (lambda _: {"text": "again"}) | inner))


@shape(visits={"outer": 1, "last": 1}, failures={"inner": 1})
def a_failure_that_is_caught(bench: Bench) -> App:
    """Return a graph that goes on after a graph inside a node has failed."""

    def fail(state: State) -> State:
        raise ValueError(str(state))

    inner = bench.runs(graph(("inner", bench.calls("inner") | fail)), catches=True)
    return graph(("outer", inner), ("last", bench.calls("last")))


@shape(visits={"work": 1})
def a_model_that_chooses_the_way(bench: Bench) -> App:
    """Return a graph with a model in the edges, from the start and from a node."""
    builder = StateGraph(State)
    builder.add_node("work", bench.calls("work"))
    builder.add_conditional_edges(START, bench.calls("__start__") | (lambda _: "work"), ["work"])
    builder.add_conditional_edges("work", bench.calls("work") | (lambda _: END), [END])
    return builder.compile()


@shape(visits={"work": 2, "inner": 2}, hops=2)
def a_graph_invoked_in_a_loop(bench: Bench) -> App:
    """Return a graph that invokes another in a node, twice."""
    builder = StateGraph(State)
    builder.add_node("work", bench.runs(graph(("inner", bench.calls("inner")))))
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", lambda state: END if state["count"] >= 2 else "work", ["work", END])
    return builder.compile()


@shape(visits={"team": 1, "hand": 1, "second": 1})
def a_hand_off_to_the_parent(bench: Bench) -> App:
    """Return a graph whose subgraph hands over to a node of the parent."""
    hand = bench.calls("hand") | (lambda _: Command(graph=Command.PARENT, goto="second"))
    return graph(("team", graph(("hand", hand))), ("second", bench.calls("second"), {}, "alone"))


def asks(bench: Bench, node: str = "ask", times: int = 1) -> App:
    """Return a node that calls its model, and asks a person."""
    return bench.calls(node) | (lambda _: {"said": "".join(interrupt(f"ok? {turn}") for turn in range(times))})


YES = Command(resume="yes")


@shape(visits={"plan": 1, "ask": 1}, turns=(None, YES))
def an_interrupt(bench: Bench) -> App:
    """Return a graph that waits for a person."""
    return graph(("plan", bench.calls("plan")), ("ask", asks(bench)), checkpointer=InMemorySaver())


@shape(visits={"ask": 1}, turns=(None, YES, YES))
def two_interrupts(bench: Bench) -> App:
    """Return a graph that waits twice in one node."""
    return graph(("ask", asks(bench, times=2)), checkpointer=InMemorySaver())


@shape(visits={"plan": 1, "work": 1}, turns=(None, Command(resume=True)))
def a_breakpoint(bench: Bench) -> App:
    """Return a graph that stops before a node."""
    nodes = ("plan", bench.calls("plan")), ("work", bench.calls("work"))
    return graph(*nodes, checkpointer=InMemorySaver(), interrupt_before=["work"])


@shape(visits={"first": 1, "ask": 2}, turns=(None, Command(resume=True)))
def a_breakpoint_behind_each_step(bench: Bench) -> App:
    """Return a graph that stops once behind two branches of the same kind."""
    builder = StateGraph(State)
    for name in ("first", "ask"):
        builder.add_node(name, bench.calls(name))
    builder.add_edge(START, "first")
    builder.add_conditional_edges("first", lambda state: [Send("ask", state), Send("ask", state)], ["ask"])
    return builder.compile(checkpointer=InMemorySaver(), interrupt_after=["first"])


@shape(visits={"outer": 1, "plan": 1, "ask": 1}, turns=(None, YES))
def an_interrupt_in_a_subgraph(bench: Bench) -> App:
    """Return a graph whose subgraph waits for a person."""
    inner = graph(("plan", bench.calls("plan")), ("ask", asks(bench)))
    return graph(("outer", inner), checkpointer=InMemorySaver())


@shape(visits={"first": 1, "ask": 1, "work": 1}, turns=(None, YES))
def an_interrupt_in_one_branch(bench: Bench) -> App:
    """Return a graph of two branches, of which one waits for a person."""
    builder = StateGraph(State)
    for name, node in (("first", bench.calls("first")), ("ask", asks(bench)), ("work", bench.calls("work"))):
        builder.add_node(name, node)
    for edge in ((START, "first"), ("first", "ask"), ("first", "work")):
        builder.add_edge(*edge)
    return builder.compile(checkpointer=InMemorySaver())


@shape(visits={"speak": 2}, hops=2, turns=(None, None), questions=2)
def two_questions_of_one_thread(bench: Bench) -> App:
    """Return a graph that remembers, and is asked again."""
    return graph(("speak", bench.calls("speak")), checkpointer=InMemorySaver())


@shape(visits={"work": 1}, failures={"work": 2})
def a_node_that_is_tried_again(bench: Bench) -> App:
    """Return a graph whose node fails twice before it succeeds."""

    def fail(state: State) -> State:
        bench.tries[state["text"]] += 1
        if bench.tries[state["text"]] < 3:
            raise ConnectionError("not yet")
        return state

    policy = RetryPolicy(initial_interval=0, max_attempts=3, jitter=False)
    return graph(("work", fail | bench.calls("work"), {"retry_policy": policy}))


@shape(visits={"work": 1}, failures={"last": 1}, outcome="failed")
def a_node_that_fails(bench: Bench) -> App:
    """Return a graph whose last node raises."""

    def fail(state: State) -> State:
        raise ValueError(str(state))

    return graph(("work", bench.calls("work")), ("last", fail))


@shape(visits={"find": 1, "answer": 1}, searches=2)
def a_search(bench: Bench) -> App:
    """Return a graph that searches twice in one node."""
    found = (lambda state: state["text"]) | Retriever() | (lambda _: {"count": 1})
    return graph(("find", found | (lambda _: "?") | Retriever() | (lambda _: {})), ("answer", bench.calls("answer")))


@shape(visits={"work": 1}, turns=(None, None), questions=2)
def a_node_with_a_cache(bench: Bench) -> App:
    """Return a graph whose node is not run again for the same question."""
    policy = {"cache_policy": CachePolicy(key_func=lambda state: f"{state['text']}{id(bench)}")}
    return graph(("work", bench.calls("work"), policy), cache=InMemoryCache())
