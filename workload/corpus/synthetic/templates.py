"""The sentences of a passage by type of entity: one opening, one per further fact, and fillers without facts.

A blank is a fact of the entity, `name`, `short` (a person's surname), or a list of the vocabulary.
"""

from __future__ import annotations

# type -> (facts stated, wordings)
OPENINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "person": (
        ("profession",),
        (
            "{name} was {a_profession} whose work keeps returning to {theme}.",
            "{name} is remembered as {a_profession} and as a stubborn voice on {theme}.",
            "Few wrote to so many friends about {theme} as {name}, {a_profession} by calling.",
            "{name}, {a_profession}, became widely known late in life.",
        ),
    ),
    "place": (
        ("kind", "region"),
        (
            "{name} is {a_kind} in the region of {region}, surrounded by {terrain}.",
            "Lying among {terrain}, {name} is {a_kind} that belongs to {region}.",
            "{name} is {a_kind} of {region}, known to travellers for {landmark}.",
        ),
    ),
    "organisation": (
        ("kind", "founded"),
        (
            "The {name} is {a_kind} that was founded in {founded} {aim}.",
            "Founded in {founded}, the {name} is {a_kind} with a staff of {staff}.",
            "The {name} has been at work as {a_kind} since it was founded in {founded}.",
        ),
    ),
    "work": (
        ("kind", "creator", "year"),
        (
            "{name} is {a_kind} by {creator} that appeared in {year}.",
            "First shown to the public in {year}, {name} is {a_kind} by {creator}.",
            "{name}, {a_kind} of {year}, is among the best known creations of {creator}.",
            "With {name}, {a_kind} from {year}, {creator} turned to {theme}.",
        ),
    ),
}

# type -> further sentences, each (facts stated, wordings)
STATEMENTS: dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = {
    "person": (
        (
            ("born", "birthplace"),
            (
                "{short} was born in {birthplace} in {born}, the {order} child of {trade}.",
                "Born in {born} in {birthplace}, {short} grew up in the house of {trade}.",
                "The future {profession} was born in {birthplace} in {born} and was brought up by {trade}.",
            ),
        ),
        (
            ("employer",),
            (
                "For {span} years {short} was employed by the {employer} and looked after {duty} there.",
                "A post at the {employer}, where {short} was put in charge of {duty}, brought a steady income.",
                "{short} joined the {employer} after {span} years abroad and remained until retirement.",
            ),
        ),
        (
            ("prize", "honoured"),
            (
                "In {honoured} {short} received the {prize} {reason}.",
                "The {prize} went to {short} in {honoured}, {reason}.",
                "{short} was given the {prize} in {honoured} {reason}.",
            ),
        ),
    ),
    "place": (
        (
            ("river",),
            (
                "The River {river} flows through it and drives {span} old mills.",
                "It stands on the River {river}, which floods the lower streets in {season}.",
                "Its streets climb from the banks of the River {river}, crossed there by {span} bridges.",
            ),
        ),
        (
            ("product",),
            (
                "Local workshops have long made {product}, sold at a fair in {season}.",
                "It is best known for {product}, a trade that survived {calamity}.",
                "Most families once lived by making {product} for merchants inland.",
            ),
        ),
        (
            ("population", "chartered"),
            (
                "It received its charter in {chartered} and has {population:,} inhabitants today.",
                "At the last census it had {population:,} inhabitants; its charter dates from {chartered}.",
                "With {population:,} inhabitants it has outgrown the walls raised under the charter of {chartered}.",
            ),
        ),
    ),
    "organisation": (
        (
            ("founder",),
            (
                "Its founder, {founder}, ran it for {span} years and paid the first wages out of savings.",
                "It was founded by {founder}, who wanted above all {aim}.",
                "{founder} founded it with {span} partners and kept a seat on the board for life.",
            ),
        ),
        (
            ("seat",),
            (
                "Its seat is in {seat}, where it occupies {building}.",
                "It has always been based in {seat}, since {calamity} in {building}.",
                "From {building} in {seat}, its seat to this day, it serves customers far away.",
            ),
        ),
    ),
    "work": (
        (
            ("publisher",),
            (
                "It was brought out by the {publisher}, which had turned it down at first.",
                "The {publisher} brought it out after {span} months of argument over the ending.",
                "It was the {publisher} that brought it out, against the advice of its own readers.",
            ),
        ),
        (
            ("setting",),
            (
                "It is set in {setting} and follows {hero} who {quest}.",
                "The story is set in {setting}, where {hero} {quest}.",
                "Set in {setting} during {season}, it shows how {hero} {quest}.",
            ),
        ),
    ),
}

FILLERS: dict[str, tuple[str, ...]] = {
    "person": (
        "Friends recalled that {short} {habit} and spoke seldom about {theme}.",
        "According to a diary of the time, {short} {habit}.",
        "A first success was followed by {span} lean years and an illness.",
        "A bronze bust by {trade} was paid for by public subscription.",
    ),
    "place": (
        "Visitors come to see {landmark}, rebuilt after {calamity}.",
        "Every year in {season} the inhabitants hold {festival}.",
        "After {calamity} half of the old centre was laid out anew around {landmark}.",
        "A branch railway through {terrain} ended its long isolation.",
    ),
    "organisation": (
        "It employs {staff} people and is known for {fame}.",
        "After {calamity} it nearly closed and was saved by a loan from {trade}.",
        "Among its traditions is {festival}, held for the staff in {season}.",
        "The archive of its early years is kept in {building} and is open on request.",
    ),
    "work": (
        "The first reviews were {verdict}, though most singled out {praise}.",
        "It {afterlife} and is now valued for {praise}.",
        "Critics linked it with {theme} and praised {praise}.",
        "Drafts show that it began as a sketch about {hero}.",
    ),
}
