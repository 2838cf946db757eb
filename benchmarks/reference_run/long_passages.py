"""Lengthen the passages of a question file, so that an agent's contexts have thousands of tokens.

Usage: python long_passages.py QUESTIONS OUT --words 900

Each passage goes on with sentences of other passages of the file, as an encyclopedia's article goes on after its first
paragraph. The beginnings are unchanged, so they are retrieved as before. The same file gives the same bytes, and a
passage is lengthened alike in every question.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from workload.corpus.hotpotqa import Paragraph, dump, unique_paragraphs
from workload.corpus.layouts import load

if TYPE_CHECKING:
    from collections.abc import Sequence


def lengthen(paragraph: Paragraph, sentences: Sequence[str], words: int) -> Paragraph:
    """Return the paragraph with sentences drawn from others until it has so many words; its title seeds the draw."""
    draw, text = Random(paragraph.title), list(paragraph.sentences)
    count = sum(len(sentence.split()) for sentence in text)
    while count < words:
        text.append(draw.choice(sentences))
        count += len(text[-1].split())
    return replace(paragraph, sentences=tuple(text))


def main() -> None:
    """Read, lengthen, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("questions", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--words", type=int, default=900, help="fewest words of a passage")
    arguments = parser.parse_args()
    questions = load(arguments.questions)
    paragraphs = unique_paragraphs(questions)
    sentences = [sentence for paragraph in paragraphs for sentence in paragraph.sentences]
    longer = {paragraph: lengthen(paragraph, sentences, arguments.words) for paragraph in paragraphs}
    dump(
        (replace(each, context=tuple(longer[paragraph] for paragraph in each.context)) for each in questions),
        arguments.out,
    )


if __name__ == "__main__":
    main()
