"""Combines questions and distractors into a corpus about an invented world, in HotpotQA's format.

Distractors look right because they share a word of a gold title or its type.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from typing import TYPE_CHECKING

from workload.corpus.chance import Chance
from workload.corpus.hotpotqa import Question
from workload.corpus.synthetic.bridge import QuestionDraft, propose_bridge
from workload.corpus.synthetic.comparison import propose_comparison
from workload.corpus.synthetic.world import World, build_world
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


COMPARISON_SHARE = 0.3
SUBJECTS_OF_BRIDGES = ("work", "work", "person", "organisation")  # works have the most bridges
TYPES = ("work", "person", "organisation", "place")
MAX_QUESTIONS = 100_000
FRUITLESS_TRIES = 2_000  # in a row, after which the world counts as asked out
COUNT = 8  # as in HotpotQA's distractor setting
NAMESAKES = 2
SMALL_WORDS = frozenset({"of", "and", "the", "for"})


def generate(questions: int, passages: int, seed: int) -> tuple[Question, ...]:
    """Make `questions` questions about a world of `passages` passages: 2 gold passages and 8 distractors each.

    The same arguments give the same questions on every machine and Python version. Distractors are used evenly, so
    the contexts together show nearly the whole world with `passages` / 6 questions or more. `level` is always "medium",
    because it is a human judgement.

    Raises:
        UsageError: a size is out of range, or the world is too small for so many different questions.
    """
    if not 1 <= questions <= MAX_QUESTIONS:
        raise UsageError(f"{questions} questions cannot be generated.", f"Ask for 1 to {MAX_QUESTIONS}.")
    world = build_world(passages, seed)
    chance = Chance(f"questions {seed}")
    distractors = Distractors(world, chance)
    drafts = _drafts(world, chance, questions)
    return tuple(_finish(draft, world, distractors, chance, seed) for draft in drafts)


def _drafts(world: World, chance: Chance, count: int) -> Iterator[QuestionDraft]:
    by_type = {kind: world.of_type(kind) for kind in TYPES}
    asked: set[str] = set()
    fruitless = 0
    while len(asked) < count:
        if chance.happens(COMPARISON_SHARE):
            peers = by_type[chance.choice(TYPES)]
            draft = propose_comparison(world, chance.choice(peers), peers, chance)
        else:
            draft = propose_bridge(world, chance.choice(by_type[chance.choice(SUBJECTS_OF_BRIDGES)]), chance)
        if draft and draft.text not in asked:
            asked.add(draft.text)
            yield draft
            fruitless = 0
        elif (fruitless := fruitless + 1) == FRUITLESS_TRIES:
            raise UsageError(
                f"A world of {len(world.entities)} passages gave only {len(asked)} of {count} questions.",
                "Ask for fewer questions or more passages.",
            )


def _finish(draft: QuestionDraft, world: World, distractors: Distractors, chance: Chance, seed: int) -> Question:
    gold = [title for title, _ in draft.facts]
    titles = [*gold, *distractors.take(gold)]
    chance.shuffle(titles)
    return Question(
        id=hashlib.sha256(f"{seed} {len(world.entities)} {draft.text}".encode()).hexdigest()[:24],
        question=draft.text,
        answer=draft.answer,
        type=draft.type,
        level="medium",
        supporting_facts=draft.facts,
        context=tuple(world.passages[title].paragraph for title in titles),
    )


class Distractors:
    """Chooses distractors so that each passage of the world is used about equally often."""

    def __init__(self, world: World, chance: Chance) -> None:
        self._world, self._chance = world, chance
        self._namesakes: dict[str, list[str]] = defaultdict(list)
        self._turns: dict[str, deque[str]] = defaultdict(deque)
        self._shown: dict[str, int] = defaultdict(int)
        for name, entity in world.entities.items():
            self._turns[entity.type].append(name)
            for word in set(name.split()) - SMALL_WORDS:
                self._namesakes[word].append(name)

    def take(self, gold: list[str]) -> list[str]:
        """Return `COUNT` titles that are not in `gold`: some namesakes, then titles of the gold passages' types."""
        words = [word for title in gold for word in title.split() if word not in SMALL_WORDS]
        related = sorted({name for word in words for name in self._namesakes[word]} - set(gold))
        taken = self._chance.sample(related, min(NAMESAKES, len(related)))
        types = sorted({self._world.entities[title].type for title in gold})
        while len(taken) < COUNT:
            # the type whose passages were used least, so that each type is used however few questions ask about it
            kind = min(types, key=lambda kind: self._shown[kind] / len(self._turns[kind]))
            self._shown[kind] += 1
            self._turns[kind].rotate(-1)
            if (name := self._turns[kind][-1]) not in gold and name not in taken:
                taken.append(name)
        return taken
