"""Corrective RAG, an agent that is not Hop2Rag: it grades what it found, and searches again in other words.

    retrieve -> grade -> generate, or grade -> rewrite -> retrieve while nothing relevant was found

It is an app like any other: LangChain's parts, no import of ours but the passages to search. Measure it with

    hop2rag run vllm-metrics --app workload.examples.corrective_rag:app --inputs workload/examples/corrective_rag.jsonl
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import bm25s
from langchain_core.callbacks import CallbackManagerForRetrieverRun  # noqa: TC002 - pydantic reads the annotation
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langgraph.graph import END, START, StateGraph
from openai import AsyncOpenAI, OpenAI

from workload.corpus.hotpotqa import unique_paragraphs
from workload.corpus.synthetic import generate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.graph.state import CompiledStateGraph

QUESTIONS, PASSAGES, SEED = 200, 600, 0
GRADE = "Do these passages help to answer the question? Say yes or no.\n\n{context}\n\nQuestion: {question}"
REWRITE = "Write a better search query for this question, and nothing else.\n\nQuestion: {question}"
ANSWER = "Answer in a few words from these passages.\n\n{context}\n\nQuestion: {question}"


class ChatModel(BaseChatModel):
    """OpenAI's chat API as LangChain calls it; `langchain_openai.ChatOpenAI` does the same and more."""

    client: Any
    async_client: Any
    model: str = ""
    max_tokens: int = 32

    @property
    def _llm_type(self) -> str:
        return "chat"

    def _request(self, messages: list[BaseMessage]) -> Any:
        return {
            "model": self.model,
            "messages": convert_to_openai_messages(messages),
            "max_tokens": self.max_tokens,
            "temperature": 0,
        }

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.model = self.model or self.client.models.list().data[0].id
        completion = self.client.chat.completions.create(**self._request(messages))
        return result_of(completion.choices[0].message.content or "", completion.id)

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.model = self.model or (await self.async_client.models.list()).data[0].id
        stream = await self.async_client.chat.completions.create(**self._request(messages), stream=True)
        response, text = "", []
        async for chunk in stream:
            response = chunk.id
            text += [choice.delta.content or "" for choice in chunk.choices]
        return result_of("".join(text), response)


def result_of(text: str, response: str) -> ChatResult:
    """Return a reply as LangChain has it, with the id of the server's response."""
    message = AIMessage(text, response_metadata={"id": response})
    return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"id": response})


class Passages(BaseRetriever):
    """The passages of the synthetic questions, ranked by BM25."""

    k: int
    texts: list[str]
    index: Any

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002 - LangChain's signature
        found, _ = self.index.retrieve(bm25s.tokenize(query, show_progress=False), k=self.k, show_progress=False)
        return [Document(self.texts[number]) for number in found[0]]


class State(TypedDict, total=False):
    """What the nodes pass on."""

    question: str
    query: str
    context: str
    is_relevant: bool
    rewrites: int
    answer: str


def app(endpoint: str, options: Mapping[str, str]) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Return the compiled graph.

    Args:
        endpoint: the address that it calls, without `/v1`.
        options: `k`, the passages of a search (default 4); `max_rewrites` (default 1).

    Raises:
        ValueError: an option is unknown or no number.
    """
    if unknown := options.keys() - {"k", "max_rewrites"}:
        raise ValueError(f"there is no option {min(unknown)!r}; there are k and max_rewrites")
    k, max_rewrites = int(options.get("k", "4")), int(options.get("max_rewrites", "1"))
    texts = [paragraph.text for paragraph in unique_paragraphs(generate(QUESTIONS, PASSAGES, SEED))]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, show_progress=False), show_progress=False)
    retriever = Passages(k=k, texts=texts, index=index)
    clients = (kind(base_url=f"{endpoint}/v1", max_retries=0) for kind in (OpenAI, AsyncOpenAI))
    model = ChatModel(client=next(clients), async_client=next(clients))

    async def say(prompt: str, state: State) -> str:
        return str((await model.ainvoke(prompt.format(**{"context": "", **state}))).content)

    async def retrieve(state: State) -> State:
        found = await retriever.ainvoke(state.get("query") or state["question"])
        return {"context": "\n\n".join(document.page_content for document in found)}

    async def grade(state: State) -> State:
        return {"is_relevant": "yes" in (await say(GRADE, state)).lower()}

    async def rewrite(state: State) -> State:
        return {"query": await say(REWRITE, state), "rewrites": state.get("rewrites", 0) + 1}

    async def generate_answer(state: State) -> State:
        return {"answer": await say(ANSWER, state)}

    def after_grade(state: State) -> str:
        return "generate" if state["is_relevant"] or state.get("rewrites", 0) >= max_rewrites else "rewrite"

    graph = StateGraph(State)
    for name, node in (
        ("retrieve", retrieve),
        ("grade", grade),
        ("rewrite", rewrite),
        ("generate", generate_answer),
    ):
        graph.add_node(name, node)
    graph.add_edge(START, "retrieve")
    graph.add_edge("retrieve", "grade")
    graph.add_conditional_edges("grade", after_grade, ["generate", "rewrite"])
    graph.add_edge("rewrite", "retrieve")
    graph.add_edge("generate", END)
    return graph.compile(name="CorrectiveRag")
