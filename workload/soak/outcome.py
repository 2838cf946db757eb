"""Whether a soak that went to its end has measured what it was asked to."""

from __future__ import annotations

from workload.analysis.wording import percent
from workload.errors import DependencyDownError, StoppedByAlertError
from workload.soak.pace import Ending

MOST_HELD_SHARE = LEAST_RECORDED_SHARE = 0.5
LEAST_ANSWERED_SHARE = 0.5
"""A question has two attempts at the most: below this some were never answered, however often the engine was away."""


def judged(
    ending: Ending, held_share: float | None, recorded_share: float | None, answered_share: float | None
) -> Ending:
    """Return the ending of a run as it deserves to be told: hours of nothing are no success.

    Args:
        ending: how it ended; one with an exit code stays as it is.
        held_share: of its time in which something held it; None if that was not recorded.
        recorded_share: of its time in which Prometheus recorded it; None if that is not known.
        answered_share: of its attempts that came to an end, those that were answered; None if none did.
    """
    if ending.exit_code:
        return ending
    if held_share is not None and held_share > MOST_HELD_SHARE:
        return Ending(f"{ending.why}, but held for {percent(held_share)} of its time", StoppedByAlertError.exit_code)
    if recorded_share is not None and recorded_share < LEAST_RECORDED_SHARE:
        why = f"{ending.why}, but Prometheus recorded only {percent(recorded_share)} of its time"
        return Ending(why, DependencyDownError.exit_code)
    if answered_share is None:
        return Ending(f"{ending.why}, but no question came to an end", DependencyDownError.exit_code)
    if answered_share < LEAST_ANSWERED_SHARE:
        why = f"{ending.why}, but answered only {percent(answered_share)} of what was asked"
        return Ending(why, DependencyDownError.exit_code)
    return ending
