"""Turns an entity's facts into a passage, and remembers which sentence states which fact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.corpus.hotpotqa import Paragraph
from workload.corpus.synthetic.templates import FILLERS, OPENINGS, STATEMENTS
from workload.corpus.synthetic.vocabulary import BLANKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.corpus.chance import Chance

MAX_SENTENCES = 6


@dataclass(frozen=True)
class Passage:
    """A paragraph and, for each fact it states, the number of the sentence that states it."""

    paragraph: Paragraph
    sentence_of: Mapping[str, int]


class _Fields(dict[str, Any]):
    """The blanks of a template: facts, `a_x` with its article, and words drawn from the vocabulary."""

    def __init__(self, facts: Mapping[str, str | int], chance: Chance) -> None:
        super().__init__(facts)
        self._chance = chance

    def __missing__(self, blank: str) -> str:
        if blank.startswith("a_"):
            word = str(self[blank[2:]])
            return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
        return self._chance.choice(BLANKS[blank])


def write_passage(kind: str, name: str, facts: Mapping[str, str | int], chance: Chance) -> Passage:
    """Write 3 to 6 sentences about one entity: an opening, its other facts in any order, and one or two fillers."""
    opening_facts, openings = OPENINGS[kind]
    rest = [(stated, chance.choice(variants)) for stated, variants in STATEMENTS[kind]]
    fillers = chance.sample(FILLERS[kind], chance.between(1, min(2, MAX_SENTENCES - 1 - len(rest))))
    rest += [((), filler) for filler in fillers]
    chance.shuffle(rest)
    plan = [(opening_facts, chance.choice(openings)), *rest]
    fields = _Fields({**facts, "name": name, "short": name.rsplit(" ", 1)[-1]}, chance)
    sentences = tuple(template.format_map(fields) for _, template in plan)
    # every sentence after the first starts with its space, as in the published files
    spaced = (sentences[0], *(f" {sentence}" for sentence in sentences[1:]))
    sentence_of = {fact: number for number, (stated, _) in enumerate(plan) for fact in stated}
    return Passage(Paragraph(name, spaced), sentence_of)
