"""Invented names: words from syllables, and names that share words so that a shared word proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workload.corpus.chance import Chance

ONSETS = ("b", "br", "d", "dr", "f", "fl", "g", "gw", "h", "j", "k", "kr", "l", "m", "n", "p", "qu", "r", "s", "sk",
          "t", "th", "tr", "v", "vr", "w", "y", "z")  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u", "ae", "ia", "ou", "ei")
CODAS = ("b", "d", "k", "l", "lm", "ld", "m", "n", "nd", "r", "rn", "rth", "s", "sk", "t", "th", "v", "x", "z")
PLACE_ENDINGS = ("Bay", "Cross", "Ford", "Haven", "Hollow", "Hythe", "Mill", "Moor", "Ridge", "Strand", "Vale", "Weir")
PRIZE_ENDINGS = ("Laurel", "Medal", "Prize", "Ribbon")
TITLE_ADJECTIVES = ("Amber", "Borrowed", "Broken", "Crooked", "Distant", "Drowned", "Empty", "Faithless", "Frozen",
                    "Gilded", "Hidden", "Hollow", "Hungry", "Idle", "Last", "Lonely", "Muted", "Narrow", "Nameless",
                    "Painted", "Patient", "Pale", "Restless", "Salted", "Scarlet", "Second", "Silent", "Sleeping",
                    "Slow", "Tangled", "Thirsty", "Unlit", "Velvet", "Wandering", "Winter", "Wooden")  # fmt: skip
TITLE_NOUNS = ("Almanac", "Anchor", "Beacon", "Bellows", "Bridge", "Candle", "Carousel", "Compass", "Courtyard",
               "Ferry", "Garden", "Harvest", "Heron", "Inheritance", "Kiln", "Ladder", "Lantern", "Letter", "Loom",
               "Meadow", "Mirror", "Orchard", "Passage", "Pendulum", "Quarry", "Regatta", "Rehearsal", "Shadow",
               "Signal", "Staircase", "Telescope", "Threshold", "Tide", "Tower", "Verdict", "Voyage", "Watchman",
               "Wedding", "Whistle", "Window")  # fmt: skip


class Namer:
    """Invents words and names, each only once."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._taken: set[str] = set()

    def words(self, count: int, syllables: int) -> list[str]:
        """Return `count` new capitalised words."""
        return [self._fresh(lambda: self._word(syllables)) for _ in range(count)]

    def pair(self, first: Sequence[str], second: Sequence[str]) -> str:
        """Return a new name of two words, one from each list."""
        return self._fresh(lambda: f"{self._chance.choice(first)} {self._chance.choice(second)}")

    def title(self, words: Sequence[str]) -> str:
        """Return a new title of a work; no pattern yields a title that is contained in another's."""
        return self._fresh(lambda: self._title(words))

    def _fresh(self, propose: Callable[[], str]) -> str:
        while (name := propose()) in self._taken:
            pass
        self._taken.add(name)
        return name

    def _word(self, syllables: int) -> str:
        chance = self._chance
        parts = [chance.choice(ONSETS) + chance.choice(VOWELS) for _ in range(syllables)]
        return ("".join(parts) + chance.choice(CODAS)).capitalize()

    def _title(self, words: Sequence[str]) -> str:
        chance = self._chance
        noun = chance.choice(TITLE_NOUNS)
        if chance.happens(0.5):
            return f"{noun} of {chance.choice(words)}"
        if chance.happens(0.5):
            return f"{chance.choice(words)} and the {noun}"
        return f"{chance.choice(TITLE_ADJECTIVES)} {noun} for {chance.choice(words)}"
