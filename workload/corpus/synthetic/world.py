"""The invented world: places, people, organisations and works, their facts, and one passage about each."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.corpus.chance import Chance
from workload.corpus.hotpotqa import Paragraph
from workload.corpus.synthetic.names import PLACE_ENDINGS, PRIZE_ENDINGS, Namer
from workload.corpus.synthetic.templates import FILLERS, OPENINGS, STATEMENTS
from workload.corpus.synthetic.vocabulary import BLANKS, ORGANISATIONS, PLACES, PRODUCTS, PROFESSIONS, WORKS
from workload.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Facts = dict[str, str | int]

MIN_PASSAGES = 60  # enough for every kind of work to find a maker and an organisation
MAX_PASSAGES = 200_000  # the pools of first names and surnames would allow more
MAX_SENTENCES = 6
PLACE_SHARE, PERSON_SHARE, ORGANISATION_SHARE = 0.2, 0.3, 0.2  # the rest are works


@dataclass(frozen=True)
class Entity:
    """A thing of the world. `type` is place, person, organisation or work; a fact's value may be another's name."""

    type: str
    name: str
    facts: Mapping[str, str | int]


@dataclass(frozen=True)
class World:
    """All entities by name, their passages by the same name, and the passages that name an entity."""

    entities: Mapping[str, Entity]
    passages: Mapping[str, Passage]
    named_in: Mapping[str, Sequence[str]]

    @property
    def paragraphs(self) -> tuple[Paragraph, ...]:
        """All passages of the world, as paragraphs of the corpus."""
        return tuple(passage.paragraph for passage in self.passages.values())

    def of_type(self, kind: str) -> list[Entity]:
        """Return the entities of one type, in order of creation."""
        return [entity for entity in self.entities.values() if entity.type == kind]


def build_world(passages: int, seed: int) -> World:
    """Make a world of exactly `passages` entities, each with one passage; the same arguments give the same world.

    Raises:
        UsageError: `passages` is outside `MIN_PASSAGES` to `MAX_PASSAGES`.
    """
    if not MIN_PASSAGES <= passages <= MAX_PASSAGES:
        raise UsageError(
            f"A world of {passages} passages cannot be generated.", f"Ask for {MIN_PASSAGES} to {MAX_PASSAGES}."
        )
    chance = Chance(f"world {seed}")
    made = list(_Maker(chance, passages).entities())
    chance.shuffle(made)
    entities = {entity.name: entity for entity in made}
    named_in: dict[str, list[str]] = defaultdict(list)
    for entity in made:
        for value in (entity.name, *entity.facts.values()):
            if value in entities:
                named_in[str(value)].append(entity.name)
    written = {entity.name: write_passage(entity.type, entity.name, entity.facts, chance) for entity in made}
    return World(entities, written, named_in)


class _Maker:
    """Makes the entities in the order of their dependencies."""

    def __init__(self, chance: Chance, total: int) -> None:
        self.chance, self.namer = chance, Namer(chance)
        counts = [int(total * share) for share in (PLACE_SHARE, PERSON_SHARE, ORGANISATION_SHARE)]
        self.places, self.people, self.organisations = counts
        self.works = total - sum(counts)
        self.bases = self.namer.words(4 + (self.places + self.organisations) // 4, syllables=2)

    def entities(self) -> Iterator[Entity]:
        places = dict(self._places())
        people = dict(self._people(list(places)))
        organisations = dict(self._organisations(list(places), people))
        for facts in people.values():
            self._employ(facts, organisations)
        makers = (("place", places), ("person", people), ("organisation", organisations))
        for kind, members in (*makers, ("work", dict(self._works(list(places), people, organisations)))):
            for name, facts in members.items():
                yield Entity(kind, name, facts)

    def _places(self) -> Iterator[tuple[str, Facts]]:
        rivers = self.namer.words(3 + self.places // 3, syllables=1 if self.places < 300 else 2)
        regions = self.namer.words(3 + self.places // 12, syllables=2)
        for number in range(self.places):
            yield (
                self.namer.pair(self.bases, PLACE_ENDINGS),
                {
                    "kind": PLACES[number % len(PLACES)],
                    "region": self.chance.choice(regions),
                    "river": self.chance.choice(rivers),
                    "product": self.chance.choice(PRODUCTS),
                    "population": self.chance.between(300, 90_000),
                    "chartered": self.chance.between(1050, 1690),
                },
            )

    def _people(self, places: list[str]) -> Iterator[tuple[str, Facts]]:
        first_names = self.namer.words(6 + self.people // 8, syllables=1 if self.people < 1000 else 2)
        surnames = self.namer.words(6 + self.people // 6, syllables=2)
        prizes = [self.namer.pair(surnames, PRIZE_ENDINGS) for _ in range(4 + self.people // 8)]
        for number in range(self.people):
            born = self.chance.between(1790, 1960)
            yield (
                self.namer.pair(first_names, surnames),
                {
                    "profession": PROFESSIONS[number % len(PROFESSIONS)],
                    "born": born,
                    "birthplace": self.chance.choice(places),
                    "prize": self.chance.choice(prizes),
                    "honoured": born + self.chance.between(28, 60),
                },
            )

    def _organisations(self, places: list[str], people: dict[str, Facts]) -> Iterator[tuple[str, Facts]]:
        kinds = list(ORGANISATIONS)
        for number in range(self.organisations):
            kind = kinds[number % len(kinds)]
            founder = self.chance.choice(list(people))
            yield (
                self.namer.pair(self.bases, ORGANISATIONS[kind]),
                {
                    "kind": kind,
                    "founder": founder,
                    "founded": int(people[founder]["born"]) + self.chance.between(24, 50),
                    "seat": self.chance.choice(places),
                },
            )

    def _employ(self, person: Facts, organisations: dict[str, Facts]) -> None:
        """Give a person an organisation that was founded in time, if a few draws find one; never the person's own."""
        names = list(organisations)
        draws = [self.chance.choice(names) for _ in range(8)]
        in_time = [name for name in draws if int(organisations[name]["founded"]) <= int(person["born"]) + 45]
        person["employer"] = (in_time or draws)[0]

    def _works(
        self, places: list[str], people: dict[str, Facts], organisations: dict[str, Facts]
    ) -> Iterator[tuple[str, Facts]]:
        makers = _grouped(people, "profession")
        publishers = _grouped(organisations, "kind")
        kinds = list(WORKS)
        for number in range(self.works):
            kind = kinds[number % len(kinds)]
            profession, _, publisher = WORKS[kind]
            creator = self.chance.choice(makers[profession])
            yield (
                self.namer.title(self.bases),
                {
                    "kind": kind,
                    "creator": creator,
                    "year": int(people[creator]["born"]) + self.chance.between(21, 64),
                    "publisher": self.chance.choice(publishers[publisher]),
                    "setting": self.chance.choice(places),
                },
            )


def _grouped(members: dict[str, Facts], fact: str) -> dict[str | int, list[str]]:
    groups: dict[str | int, list[str]] = defaultdict(list)
    for name, facts in members.items():
        groups[facts[fact]].append(name)
    return groups


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
