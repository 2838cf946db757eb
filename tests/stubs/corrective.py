"""Corrective RAG on LangGraph: a second, different agent, of plain LangChain parts that know nothing of metering.

retrieve -> grade -> generate, or grade -> rewrite -> retrieve while nothing relevant was found.
"""

from __future__ import annotations

import asyncio
from collections import deque  # noqa: TC003 - pydantic reads the annotation at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langgraph.graph import END, START, StateGraph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langgraph.graph.state import CompiledStateGraph

CACHED = 4
PROMPT_TOKENS = 10


class ChatModel(BaseChatModel):
    """Streams its replies one by one, word by word, with usage as vLLM reports it; an exception among them is raised.

    Attributes:
        replies: what it says; the last is said again for ever. An empty one never comes.
        hangs: set once one never comes.
        seconds: pause before the first token.
        is_streaming: whether a plain call streams, as an OpenAI model does with `streaming=True`.
        reports_cached: whether usage has the cached tokens.
        reports_usage: whether a reply has usage.
    """

    replies: deque[Any]
    hangs: Any = None
    seconds: float = 0.0
    is_streaming: bool = True
    reports_cached: bool = True
    reports_usage: bool = True

    @property
    def _llm_type(self) -> str:
        return "stub"

    def _next(self) -> str:
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, BaseException):
            raise reply
        return str(reply)

    def _usage(self, reply: str) -> Any:
        if not self.reports_usage:
            return None
        details = {"input_token_details": {"cache_read": CACHED}} if self.reports_cached else {}
        words = len(reply.split())
        return {"input_tokens": PROMPT_TOKENS, "output_tokens": words, "total_tokens": PROMPT_TOKENS + words, **details}

    def _pieces(self, reply: str) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=AIMessageChunk(content=""))
        for word in reply.split():
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=self._usage(reply)))

    def _stream(self, *_: Any, run_manager: Any = None, **__: Any) -> Iterator[Any]:
        for piece in self._pieces(self._next()):
            if run_manager:
                run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece

    async def _astream(self, *_: Any, run_manager: Any = None, **__: Any) -> AsyncIterator[Any]:
        reply = self._next()
        if not reply:
            self.hangs.set()
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        for piece in self._pieces(reply):
            if run_manager:
                await run_manager.on_llm_new_token(piece.text, chunk=piece)
            yield piece

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        reply = self._next()
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(content=reply, usage_metadata=self._usage(reply)))]
        )

    def _should_stream(self, **_: Any) -> bool:
        return self.is_streaming


class Retriever(BaseRetriever):
    """Finds the same document for every query, or fails, or never returns once it has set `begun`."""

    failure: Any = None
    begun: Any = None

    async def _aget_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        if self.begun:
            self.begun.set()
            await asyncio.Event().wait()
        return self._get_relevant_documents(query)

    def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
        if self.failure:
            raise self.failure
        return [Document(page_content=f"About {query}.")]


class State(TypedDict, total=False):
    """What the nodes pass on."""

    question: str
    query: str
    documents: list[Document]
    is_relevant: bool
    answer: str


@dataclass
class CorrectiveRag:
    """The nodes and their parts; `app()` compiles them.

    Attributes:
        model: grades "yes" or "no", rewrites and answers, in the order in which the graph asks.
        retriever: finds documents.
        max_rewrites: rewrites after which the loop ends.
    """

    model: ChatModel
    retriever: Retriever = field(default_factory=Retriever)

    async def retrieve(self, state: State) -> State:
        """Search for the query, at first the question itself."""
        return {"documents": await self.retriever.ainvoke(state.get("query", state["question"]))}

    async def grade(self, state: State) -> State:
        """Ask whether what was found is of use."""
        graded = await self.model.ainvoke(f"Relevant? {state['documents']}")
        return {"is_relevant": "yes" in str(graded.content)}

    async def rewrite(self, state: State) -> State:
        """Ask for a better query."""
        return {"query": str((await self.model.ainvoke(f"Rewrite {state['question']}")).content)}

    async def generate(self, state: State) -> State:
        """Answer from the documents."""
        return {"answer": str((await self.model.ainvoke(f"Answer {state['question']}")).content)}

    def app(self) -> CompiledStateGraph[State, None, Any, Any]:
        """Return the compiled graph."""
        graph = StateGraph(State)
        for name in ("retrieve", "grade", "rewrite", "generate"):
            graph.add_node(name, getattr(self, name))
        graph.add_edge(START, "retrieve")
        graph.add_edge("retrieve", "grade")
        graph.add_conditional_edges("grade", after_grade, ["generate", "rewrite"])
        graph.add_edge("rewrite", "retrieve")
        graph.add_edge("generate", END)
        return graph.compile(name="CorrectiveRag")


def after_grade(state: State) -> str:
    """Answer once something relevant was found, else ask again in other words."""
    return "generate" if state["is_relevant"] else "rewrite"
