"""What a comparison runs: the trajectory first, unless there is one or none is wanted, then all arms on it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from workload.experiments import comparison as ab
from workload.experiments.ab import recording
from workload.experiments.comparison import compare_arms
from workload.settings import load_settings

if TYPE_CHECKING:
    from workload.experiment import Arm
    from workload.settings import Settings

ARMS = ("first:layout=append-only", "second")
PROGRESS: Any = SimpleNamespace(console=Console(quiet=True))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings]]:
    """Return what is run, name and settings, in order; nothing is."""
    found: list[tuple[str, Settings]] = []

    def run(experiment: Any, settings: Settings, *_: Any) -> Any:
        found.append((experiment.name, settings))
        return SimpleNamespace(run_id=f"run-of-{experiment.name}", arms=experiment.arms)

    monkeypatch.setattr(ab, "run_experiment", run)
    return found


def settings_with(**flags: Any) -> Settings:
    """Return settings of a comparison at concurrency 4."""
    return load_settings({"limit": 6, "max_hops": 2, "k": 5, "concurrency": (4,), "arms": ARMS, **flags}, {})


def test_a_trajectory_is_recorded_on_the_first_arm_and_then_replayed(runs: list[tuple[str, Settings]]) -> None:
    """Without it each arm would take its own paths, and the arms would do unequal work."""
    experiment, _ = compare_arms(settings_with(), PROGRESS)
    (recorded, once), (compared, replayed) = runs
    assert (recorded, once.load.record_prompts, once.load.concurrency, once.load.replay) == (
        "trajectory",
        True,
        (1,),
        None,
    )
    assert (compared, replayed.load.replay, replayed.load.concurrency) == ("ab", "run-of-trajectory", (4,))
    assert replayed.load.record_prompts is False
    assert experiment.keeps_engine
    assert (once.load.limit, once.load.seed) == (replayed.load.limit, replayed.load.seed)


@pytest.mark.parametrize(
    ("flags", "more"), [({"replay": "given"}, {}), ({}, {"is_live": True}), ({}, {"run_id": "begun"})], ids=str
)
def test_nothing_is_recorded_where_it_is_not_needed(
    runs: list[tuple[str, Settings]], flags: dict[str, Any], more: dict[str, Any]
) -> None:
    """A named record, arms that answer for themselves, and a run that goes on and knows its record."""
    compare_arms(settings_with(**flags), PROGRESS, **more)
    assert [(name, settings.load.replay) for name, settings in runs] == [("ab", flags.get("replay"))]


def test_the_record_is_of_the_first_arm(runs: list[tuple[str, Settings]], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the path of the arm that the others are compared with."""
    recorded: list[Arm] = []

    def remember(arm: Arm) -> Any:
        recorded.append(arm)
        return recording(arm)

    monkeypatch.setattr(ab, "recording", remember)
    compare_arms(settings_with(), PROGRESS)
    assert [dict(arm.options) for arm in recorded] == [{"layout": "append-only"}]
    assert [name for name, _ in runs] == ["trajectory", "ab"]


@pytest.mark.parametrize(
    ("flags", "size"),
    [
        ({}, 12),
        ({"concurrency": (1,)}, 3),
        ({"interleave": 5}, 5),
        ({"arms": ("first", "prefix-off")}, None),
    ],
    ids=str,
)
def test_arms_on_one_engine_take_short_blocks(
    runs: list[tuple[str, Settings]], flags: dict[str, Any], size: int | None
) -> None:
    """Arms that need engines of their own would restart them for each block; the record has one arm and one block."""
    compare_arms(settings_with(**flags), PROGRESS)
    (_, recorded), (_, compared) = runs
    assert (recorded.load.interleave, compared.load.interleave) == (None, size)


def test_a_run_that_goes_on_keeps_its_blocks(runs: list[tuple[str, Settings]]) -> None:
    """Else its blocks would differ from those in its journal."""
    compare_arms(settings_with(), PROGRESS, "begun")
    assert [settings.load.interleave for _, settings in runs] == [None]
