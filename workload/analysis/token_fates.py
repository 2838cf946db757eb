"""The fates of prompt tokens, as the ledger found them, and what lies between the reuse bound and the hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from workload.analysis.wording import number, percent
from workload.fleet.account import FATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from workload.record.results import Row, RunData

MOST_DEAR = 10
WORDS = {
    "hit": "hit",
    "tail": "lay after the last block that can be reused",
    "cold": "were new",
    "elsewhere": "were on another engine",
    "evicted": "had been evicted",
    "reset": "had been lost to a reset or restart",
    "flight": "were being computed by another call",
    "salt": "were cached under another salt or adapter",
    "behind": "lay behind a missing block",
    "unknown": "have an unknown fate",
}
"""What became of tokens, after "of 100 prompt tokens N"."""


class TokenFates(TypedDict):
    """Prompt tokens of calls by fate, and what of them could be found.

    Attributes:
        calls: the calls whose fates are known.
        tokens: by fate, zeros included.
        dearest: the calls that lost most tokens, with their questions, see `_dearest`.
        chain: tokens that any cache once contained, that the best engine, the chosen one, contained, and hits, of the
            `prompt` tokens of the calls for which all of it is known; None if there are none.
    """

    calls: int
    tokens: dict[str, int]
    dearest: list[Row]
    chain: dict[str, int] | None


def token_fates(calls: Iterable[Row]) -> TokenFates | None:
    """Return the sums over calls; None if no call has fates, because its engine caches nothing or the run is old.

    A row of fates may be the sum over several `calls`, which have no question.
    """
    explained = [call for call in calls if call.get("fates")]
    if not explained:
        return None
    rows = [call["fates"] for call in explained]
    tokens: dict[str, int] = {fate: sum(row[fate] for row in rows) for fate in FATES}
    known = [row for row in rows if row["bound"] is not None]
    names = {"bound": "bound", "in_fleet": "in_fleet", "on_engine": "on_engine", "delivered": "hit"}
    chain = {name: sum(row[column] for row in known) for name, column in names.items()}
    prompt = sum(row[fate] for row in known for fate in FATES)
    return {
        "calls": sum(row.get("calls", 1) for row in rows),
        "tokens": tokens,
        "dearest": _dearest(explained),
        "chain": {"prompt": prompt, **chain} if known else None,
    }


def _dearest(calls: Iterable[Row]) -> list[Row]:
    """Return the calls with most tokens that were neither hits nor new, and what became of most of these tokens."""
    lost = [
        {
            **{name: call[name] for name in ("question_id", "node", "hop", "prompt_tokens")},
            "lost_tokens": sum(_lost(call["fates"]).values()),
            "fate": fate,
        }
        for call in calls
        if "question_id" in call and (fate := cause_of(call["fates"]))
    ]
    return sorted(lost, key=lambda row: -int(row["lost_tokens"]))[:MOST_DEAR]


def fates_by_arm(data: RunData, arms: Iterable[str]) -> dict[str, TokenFates]:
    """Return the fates of each arm that has some."""
    return {arm: found for arm in arms if (found := token_fates(data.calls_of(arm)))}


def cause_of(fates: Row) -> str | None:
    """Return the fate of most of a call's tokens that were neither hits nor new; None if there are none."""
    lost = _lost(fates)
    fate = max(lost, key=lambda each: lost[each])
    return fate if lost[fate] else None


def _lost(fates: Row) -> dict[str, int]:
    return {fate: fates[fate] for fate in FATES if fate not in {"hit", "tail", "cold"}}


def fates_in_words(arms: Mapping[str, TokenFates]) -> list[str]:
    """Return what became of each arm's prompt tokens; one arm is not named."""
    return [
        f"{arm}: {sentence}" if len(arms) > 1 else sentence
        for arm, found in arms.items()
        for sentence in _sentences(found)
    ]


def _sentences(found: TokenFates) -> list[str]:
    tokens = found["tokens"]
    total = sum(tokens.values())
    # hits first, then from the most to the fewest tokens
    ranked = sorted(tokens.items(), key=lambda each: (each[0] != "hit", -each[1]))
    shares = [f"{number(100 * count / total)} {WORDS[fate]}" for fate, count in ranked if count]
    said = [f"Of 100 prompt tokens {_listed(shares)}."] if shares else []
    if (chain := found["chain"]) and chain["prompt"]:
        bound, best, here, hits = (percent(chain[name] / chain["prompt"]) for name in list(chain)[1:])
        said.append(
            f"One cache that never evicts would have served {bound} of the prompt tokens; {best} were in some engine's "
            f"cache, {here} in that of the engine that was chosen, and {hits} were hits."
        )
    return said


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
