"""BM25 over a few texts: selects the documents to keep and the sentences that support the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bm25s
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workload.corpus.document import Document

SUPPORTING_TITLES = 2


def rank(query: str, texts: Sequence[str]) -> list[int]:
    """Return the indexes of `texts`, best match first; equal scores keep their order."""
    return [int(index) for index in np.argsort(-_scores(query, texts), kind="stable")]


def supporting_facts(query: str, documents: Sequence[Document]) -> list[tuple[str, int]]:
    """Return (title, sentence index) of the best sentence in each of the best two documents.

    HotpotQA's questions need two paragraphs, so one sentence of each is the simplest honest guess.
    """
    sentences = [
        (document.title, index, text) for document in documents for index, text in enumerate(document.sentences)
    ]
    best: dict[str, int] = {}
    for position in rank(query, [text for _, _, text in sentences]):
        title, index, _ = sentences[position]
        if len(best) < SUPPORTING_TITLES:
            best.setdefault(title, index)
    return list(best.items())


def _scores(query: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the BM25 score of each text, shape (len(texts),)."""
    tokens = bm25s.tokenize(list(texts), return_ids=False, show_progress=False)
    wanted = bm25s.tokenize(query, return_ids=False, show_progress=False)[0]
    if not any(tokens) or not wanted:
        return np.zeros(len(texts), dtype=np.float32)
    model = bm25s.BM25()
    model.index(tokens, show_progress=False)
    scores: NDArray[np.float32] = model.get_scores(wanted)
    return scores
