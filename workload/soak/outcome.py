"""Judges whether a soak that reached its end has measured what it was asked to."""

from __future__ import annotations

from workload.analysis.wording import percent
from workload.errors import DependencyDownError, StoppedByAlertError
from workload.soak.pace import Ending

MOST_HELD_SHARE = LEAST_RECORDED_SHARE = 0.5
LEAST_ANSWERED_SHARE = 0.5
"""A question has at most two attempts, so below this share some questions were never answered."""


def judge(
    ending: Ending, held_share: float | None, recorded_share: float | None, answered_share: float | None
) -> Ending:
    """Return the ending, with an exit code if most of the run was paused, not recorded or not answered.

    Args:
        ending: how the run ended; one with an exit code is returned unchanged.
        held_share: the share of its time in which it was paused; None if that was not recorded.
        recorded_share: the share of its time that Prometheus recorded; None if that is not known.
        answered_share: the share of its ended attempts that were answered; None if no attempt ended.
    """
    if ending.exit_code:
        return ending
    if held_share is not None and held_share > MOST_HELD_SHARE:
        return Ending(f"{ending.why}, but paused for {percent(held_share)} of its time", StoppedByAlertError.exit_code)
    if recorded_share is not None and recorded_share < LEAST_RECORDED_SHARE:
        why = f"{ending.why}, but Prometheus recorded only {percent(recorded_share)} of its time"
        return Ending(why, DependencyDownError.exit_code)
    if answered_share is None:
        return Ending(f"{ending.why}, but no question ended", DependencyDownError.exit_code)
    if answered_share < LEAST_ANSWERED_SHARE:
        why = f"{ending.why}, but only {percent(answered_share)} of the questions were answered"
        return Ending(why, DependencyDownError.exit_code)
    return ending
