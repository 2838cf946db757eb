"""Selects the passages of a prompt: all of them, or what fits a token budget.

The budget is for the passages of one prompt, in tokens of the engine's own tokenizer. Passages that are left out of a
prompt stay in the evidence, so supporting facts are searched in everything that was retrieved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workload.agent import ranking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from workload.agent.state import Hop2RagState
    from workload.corpus.document import Document
    from workload.settings import Selection

    Place = tuple[int, int]  # of a document, and of a sentence in it


@dataclass(frozen=True)
class Context:
    """Chooses sentences of passages.

    Args:
        selection: `all`; `truncate`: the first sentences that fit, passages in rank order; `importance`: the sentences
            that the reranker scores highest against question and query; `progressive`: as `truncate`, but hop h has
            only h/`max_hops` of the budget, so a question pays for more context only if it continues.
        budget_tokens: the budget for the passages of one prompt.
        count: returns the number of tokens of a text; `all` counts none.
    """

    selection: Selection = "all"
    budget_tokens: int = 0
    max_hops: int = 1
    count: Callable[[str], int] = len

    def limited(self, state: Hop2RagState) -> Hop2RagState:
        """Return the state with `fresh` and `evidence` cut to the budget."""
        if self.selection == "all":
            return state
        fresh, evidence = (self.fitting(found, state) for found in (state.get("fresh", []), state.get("evidence", [])))
        return {**state, "fresh": fresh, "evidence": evidence}

    def fitting(self, documents: Sequence[Document], state: Hop2RagState) -> list[Document]:
        """Return the documents with the sentences that fit, in order; leave out documents without any."""
        budget = self.budget_tokens
        if self.selection == "progressive":
            budget = -(-budget * min(state["hop"], self.max_hops) // self.max_hops)
        taken: dict[int, list[int]] = {}
        for document, sentence in self._order(documents, state):
            tokens = self.count(documents[document].sentences[sentence])
            if document not in taken:
                tokens += self.count(f"[{documents[document].title}]")
            if tokens <= budget:
                budget -= tokens
                taken.setdefault(document, []).append(sentence)
            elif self.selection != "importance":
                break  # a later, shorter sentence would lack its context
        return [_with(documents[place], sorted(sentences)) for place, sentences in sorted(taken.items())]

    def _order(self, documents: Sequence[Document], state: Hop2RagState) -> Iterator[Place]:
        places = [(place, number) for place, found in enumerate(documents) for number in range(len(found.sentences))]
        if self.selection != "importance":
            yield from places
        elif places:
            texts = [documents[place].sentences[number] for place, number in places]
            query = f"{state['question']} {state.get('query', '')}"
            yield from (places[position] for position in ranking.rank(query, texts))


EVERYTHING = Context()


def _with(document: Document, sentences: Sequence[int]) -> Document:
    if len(sentences) == len(document.sentences):
        return document
    return replace(document, text=" ".join(document.sentences[number].strip() for number in sentences))
