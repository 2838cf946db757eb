"""Two runs beside each other, as the console shows them; see `workload.analysis.run_pair`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.wording import change, interval, number, percent

if TYPE_CHECKING:
    from workload.analysis.ab import Quantity
    from workload.analysis.run_pair import PairedArms, RunPair
    from workload.report.serving import Table
    from workload.statistics.paired import Interval

QUANTITIES: dict[Quantity, str] = {
    "uncached_prefill_tokens": "uncached prefill tokens",
    "time_to_first_token_seconds": "time to first token, s",
    "end_to_end_seconds": "end to end, s",
    "decode_seconds_per_token": "control: decode time per token, s",
}


def table(pair: RunPair) -> Table:
    """Return the table of two runs: medians over questions, and the paired change with its interval."""
    columns = ("arm, load", "median over questions", *pair["runs"], "paired change", "n")
    rows: list[tuple[str, ...]] = [
        (
            _name(arms),
            words,
            _median(found["a"], found["a_ci"]),
            _median(found["b"], found["b_ci"]),
            change(found) if arms["is_paired"] else "not paired",
            str(found["n"]),
        )
        for arms in pair["arms"]
        for quantity, words in QUANTITIES.items()
        if (found := arms["compared"][quantity])
    ]
    return columns, rows


def _name(arms: PairedArms) -> str:
    one, other = arms["arms"]
    return f"{one if one == other else f'{one} = {other}'}, {arms['load']}"


def _median(value: float | None, ci: Interval | None) -> str:
    return number(value) + interval(ci)


def sentences(pair: RunPair) -> list[str]:
    """Return what a reader of the table must know: what differs, whether the work was equal, what is not paired."""
    found = [f"{name} differs: {_value(one)} and {_value(other)}." for name, (one, other) in pair["differs"].items()]
    for arms in pair["arms"]:
        if not arms["is_paired"]:
            found.append(f"{_name(arms)}: no question is in both runs, so the medians are of different questions.")
        elif arms["diverged"]:
            found.append(
                f"{_name(arms)}: {percent(arms['diverged'])} of the questions took another path or answer, so the work "
                "was not equal."
            )
    return found or ["Both runs are of the same system and corpus, and took the same paths."]


def _value(value: Any) -> str:
    text = "not known" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
