"""Distractors: passages that look right because they share a word of a gold title or its type."""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workload.corpus.chance import Chance
    from workload.corpus.synthetic.world import World

COUNT = 8  # as in HotpotQA's distractor setting
NAMESAKES = 2
SMALL_WORDS = frozenset({"of", "and", "the", "for"})


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
