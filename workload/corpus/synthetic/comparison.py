"""Comparison questions: two entities of one type, a fact of each, and which comes first or whether they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workload.corpus.synthetic.bridge import QuestionDraft

if TYPE_CHECKING:
    from workload.corpus.chance import Chance
    from workload.corpus.synthetic.world import Entity, World

# (type, fact) -> does the smaller value win, wordings
ORDERED: dict[tuple[str, str], tuple[bool, tuple[str, ...]]] = {
    ("person", "born"): (True, ("Who was born first, {a} or {b}?", "Who is older, {a} or {b}?")),
    ("place", "population"): (False, ("Which place has more inhabitants, {a} or {b}?", "Which is larger, {a} or {b}?")),
    ("place", "chartered"): (True, ("Which place received its charter first, {a} or {b}?",)),
    ("organisation", "founded"): (True, ("Which was founded first, the {a} or the {b}?",)),
    ("work", "year"): (True, ("Which appeared first, {a} or {b}?", "Which is the earlier work, {a} or {b}?")),
}

# (type, fact) -> wordings of "is it the same?"
SAME: dict[tuple[str, str], tuple[str, ...]] = {
    ("person", "profession"): ("Did {a} and {b} have the same profession?",),
    ("person", "birthplace"): ("Were {a} and {b} born in the same place?",),
    ("person", "prize"): ("Did {a} and {b} receive the same prize?",),
    ("place", "region"): ("Do {a} and {b} lie in the same region?", "Are {a} and {b} parts of one region?"),
    ("place", "river"): ("Do {a} and {b} stand on the same river?",),
    ("organisation", "kind"): ("Are the {a} and the {b} the same kind of organisation?",),
    ("organisation", "seat"): ("Are the {a} and the {b} based in the same place?",),
    ("work", "kind"): ("Are {a} and {b} the same kind of work?",),
    ("work", "setting"): ("Are {a} and {b} set in the same place?",),
}
ORDERED_SHARE = 0.6
YES_SHARE = 0.5


def propose_comparison(world: World, first: Entity, peers: list[Entity], chance: Chance) -> QuestionDraft | None:
    """Draw a comparison of `first` with one of `peers` (all of its type), or None if no peer is suitable."""
    if chance.happens(ORDERED_SHARE):
        return _propose_ordered(world, first, chance.choice(peers), chance)
    return _propose_same(world, first, peers, chance)


def _propose_ordered(world: World, first: Entity, second: Entity, chance: Chance) -> QuestionDraft | None:
    fact = chance.choice([fact for kind, fact in ORDERED if kind == first.type])
    smaller_wins, wordings = ORDERED[first.type, fact]
    low, high = sorted((first, second), key=lambda entity: int(entity.facts[fact]))
    if low.facts[fact] == high.facts[fact]:
        return None
    return _draft(world, first, second, fact, chance.choice(wordings), answer=(low if smaller_wins else high).name)


def _propose_same(world: World, first: Entity, peers: list[Entity], chance: Chance) -> QuestionDraft | None:
    fact = chance.choice([fact for kind, fact in SAME if kind == first.type])
    wants_yes = chance.happens(YES_SHARE)
    # the scan starts at a random peer, so that a rare match is found without always finding the same one
    start = chance.below(len(peers))
    for second in (*peers[start:], *peers[:start]):
        if second is not first and (second.facts[fact] == first.facts[fact]) == wants_yes:
            answer = "yes" if wants_yes else "no"
            return _draft(world, first, second, fact, chance.choice(SAME[first.type, fact]), answer=answer)
    return None


def _draft(world: World, first: Entity, second: Entity, fact: str, wording: str, *, answer: str) -> QuestionDraft:
    return QuestionDraft(
        type="comparison",
        text=wording.format(a=first.name, b=second.name),
        answer=answer,
        facts=tuple((entity.name, world.passages[entity.name].sentence_of[fact]) for entity in (first, second)),
    )
