"""What LangChain hides from a handler, and the ways around it that docs/your-agent.md names."""

from __future__ import annotations

import re
import threading
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import HumanMessage
from langchain_core.runnables.config import ContextThreadPoolExecutor
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.config import get_config

from exporter.langgraph import MeteringHandler
from tests.exporter.langgraph.bench import graph
from tests.stubs.chat import VllmChat
from tests.stubs.vllm import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stubs.vllm import StubVllm

DOCUMENT = (Path(__file__).parents[3] / "docs" / "your-agent.md").read_text()
PROMPTS = [[HumanMessage("?")]]


def in_a_thread(target: Callable[..., Any], *args: Any) -> None:
    """Call a function in a thread of one's own."""
    thread = threading.Thread(target=target, args=args)
    thread.start()
    thread.join()


def in_a_pool(target: Callable[..., Any], *args: Any) -> None:
    """Call a function in LangChain's own pool."""
    with ContextThreadPoolExecutor() as pool:
        pool.submit(target, *args).result()


HIDDEN: dict[str, Callable[[Any, Any], Any]] = {
    "threading.Thread(target=model.invoke)": lambda model, _: in_a_thread(model.invoke, "?"),
    "model.generate(...)": lambda model, _: model.generate(PROMPTS),
}
SEEN: dict[str, Callable[[Any, Any], Any]] = {
    "copy_context().run": lambda model, _: in_a_thread(copy_context().run, model.invoke, "?"),
    "ContextThreadPoolExecutor": lambda model, _: in_a_pool(model.invoke, "?"),
    "model.batch": lambda model, _: model.batch(["?"]),
    'callbacks=config["callbacks"]': lambda model, config: model.generate(PROMPTS, callbacks=config["callbacks"]),
}


@pytest.mark.parametrize(("way", "is_seen"), [*((way, False) for way in HIDDEN), *((way, True) for way in SEEN)])
def test_calls_are_hidden_and_seen_as_documented(way: str, is_seen: bool, counting: StubVllm) -> None:
    """A reader whose calls are missing must find the reason, and a remedy that works."""
    assert way in DOCUMENT
    counting.script = lambda _: Turn("a")
    model = VllmChat(url=counting.url)

    def speak(_: Any) -> dict[str, int]:
        (HIDDEN | SEEN)[way](model, get_config())
        return {"count": 1}

    handler = MeteringHandler()
    graph(("speak", speak)).invoke({"text": "?"}, {"callbacks": [handler]})
    calls = handler.registry.get_sample_value("hop2rag_llm_call_duration_seconds_count", {"node": "speak"})
    assert calls == (1 if is_seen else None)


@pytest.mark.parametrize(("way", "is_seen"), [("similarity_search", False), ("as_retriever", True)])
def test_searches_are_hidden_and_seen_as_documented(way: str, is_seen: bool) -> None:
    """Most tutorials search the store itself."""
    assert re.search(rf"`store\.{way}\(", DOCUMENT)
    store = InMemoryVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=4))

    def find(_: Any) -> dict[str, int]:
        found = store.similarity_search("a") if way == "similarity_search" else store.as_retriever().invoke("a")
        return {"count": len(found)}

    handler = MeteringHandler()
    graph(("find", find)).invoke({"text": "?"}, {"callbacks": [handler]})
    searches = handler.registry.get_sample_value("hop2rag_retrieval_duration_seconds_count", {"stage": "search"})
    assert searches == (1 if is_seen else None)
