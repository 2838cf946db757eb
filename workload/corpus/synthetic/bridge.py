"""Bridge questions: the subject's passage names a second entity, and only that entity's passage has the answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workload.corpus.synthetic.vocabulary import WORKS

if TYPE_CHECKING:
    from workload.corpus.chance import Chance
    from workload.corpus.synthetic.world import Entity, World

# (subject's type, the fact that names the bridge) -> how a question describes the bridge without naming it
BRIDGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("work", "creator"): ("the {role} of {subject}", "the {role} of the {kind} {subject}"),
    ("work", "publisher"): ("the {publisher_kind} that brought out {subject}", "the {publisher_kind} behind {subject}"),
    ("work", "setting"): ("the place in which the {kind} {subject} is set", "the setting of the {kind} {subject}"),
    ("person", "birthplace"): ("the birthplace of {subject}", "the place where the {profession} {subject} was born"),
    ("person", "employer"): ("the organisation that employed {subject}", "the employer of the {profession} {subject}"),
    ("organisation", "seat"): ("the place where the {subject} has its seat", "the seat of the {subject}"),
    ("organisation", "founder"): ("the founder of the {subject}", "the person who founded the {subject}"),
}

# (bridge's type, the fact asked for) -> wordings
ASKED: dict[tuple[str, str], tuple[str, ...]] = {
    ("person", "born"): ("In which year was {bridge} born?", "What is the year of birth of {bridge}?"),
    ("person", "birthplace"): ("Where was {bridge} born?", "What is the birthplace of {bridge}?"),
    ("person", "employer"): ("By which organisation was {bridge} employed?", "Who employed {bridge}?"),
    ("person", "prize"): ("Which prize did {bridge} receive?", "What award was given to {bridge}?"),
    ("place", "river"): ("Which river flows through {bridge}?", "On which river does {bridge} stand?"),
    ("place", "product"): ("Which product is {bridge} best known for?", "What is traditionally made in {bridge}?"),
    ("place", "region"): ("In which region does {bridge} lie?", "To which region does {bridge} belong?"),
    ("organisation", "founded"): ("In which year was {bridge} founded?", "When was {bridge} founded?"),
    ("organisation", "founder"): ("Who founded {bridge}?", "Who was the founder of {bridge}?"),
    ("organisation", "seat"): ("Where is {bridge} based?", "In which place does {bridge} have its seat?"),
}


@dataclass(frozen=True)
class QuestionDraft:
    """A question without its distractors; `facts` are (title, sentence number) of the gold passages in order."""

    type: str
    text: str
    answer: str
    facts: tuple[tuple[str, int], ...]


def propose_bridge(world: World, subject: Entity, chance: Chance) -> QuestionDraft | None:
    """Draw a bridge question about `subject`, or return None if a single passage would give the answer away."""
    relation = chance.choice([relation for kind, relation in BRIDGES if kind == subject.type])
    bridge = world.entities[str(subject.facts[relation])]
    asked = chance.choice([asked for kind, asked in ASKED if kind == bridge.type])
    answer = str(bridge.facts[asked])
    if not _needs_both(world, subject, bridge, answer):
        return None
    described = chance.choice(BRIDGES[subject.type, relation]).format(**_blanks(subject))
    return QuestionDraft(
        type="bridge",
        text=chance.choice(ASKED[bridge.type, asked]).format(bridge=described),
        answer=answer,
        facts=(
            (subject.name, world.passages[subject.name].sentence_of[relation]),
            (bridge.name, world.passages[bridge.name].sentence_of[asked]),
        ),
    )


def _blanks(subject: Entity) -> dict[str, str]:
    blanks = {"subject": subject.name, **{fact: str(value) for fact, value in subject.facts.items()}}
    if subject.type == "work":
        _, blanks["role"], blanks["publisher_kind"] = WORKS[blanks["kind"]]
    return blanks


def _needs_both(world: World, subject: Entity, bridge: Entity, answer: str) -> bool:
    """Return whether no passage that names the subject has the answer or is the bridge's: one search must not do."""
    wanted = re.compile(rf"\b{re.escape(answer)}\b")
    readable = [world.passages[title].paragraph for title in world.named_in[subject.name]]
    given_away = any(wanted.search(paragraph.text) or wanted.search(paragraph.title) for paragraph in readable)
    return not given_away and bridge.name not in {paragraph.title for paragraph in readable}
