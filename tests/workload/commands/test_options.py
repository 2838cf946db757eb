"""Options that set settings: declared once, and each sets something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workload.cli import run_command_line
from workload.commands.options import AGENT, PORTS, RUNNING, SETTINGS, STARTED, STORE, with_settings
from workload.settings import PART_OF, load_settings

if TYPE_CHECKING:
    from workload.settings import Settings


def test_every_option_sets_a_setting() -> None:
    """An option that no part of the settings knows would end each run that is given it."""
    assert SETTINGS.keys() <= PART_OF.keys()
    assert {*AGENT, *PORTS, *RUNNING, *STARTED, *STORE} <= SETTINGS.keys()


def test_a_command_gets_the_settings_that_were_given_and_its_own_options() -> None:
    """What was not given must not win over the environment; 0 is given, and refused later by its range."""
    seen: list[Any] = []

    @with_settings("limit", "k", seed=int | None)
    def command(flags: dict[str, Any], own: str = "") -> None:
        seen.append((flags, own))

    command(limit=0, k=None, seed=3, own="x")
    assert seen == [({"limit": 0, "seed": 3}, "x")]


@pytest.mark.parametrize("command", ["ab", "optimize"])
def test_a_record_to_replay_excludes_live_arms(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The two comparisons take the same options, and read them the same way."""
    assert run_command_line([command, "--live", "--replay", "r"]) == 2
    assert "Give one of them" in capsys.readouterr().err


def of(**flags: Any) -> Settings:
    """Return settings with these flags."""
    return load_settings({"limit": 1, "max_hops": 1, "k": 1, **flags}, {})


def test_lists_and_command_lines_are_read_as_they_are_typed() -> None:
    """`--concurrency 1,2` and `--engine-args '--a b'` are text; a manifest has them as lists."""
    assert of(concurrency="1,2").load.concurrency == of(concurrency=["1", 2]).load.concurrency == (1, 2)
    assert of(concurrency=4).load.concurrency == (4,)
    assert of(rate="0.5").load.rate == (0.5,)
    assert of(engine_args="--a 'b c'").engine.engine_args == ("--a", "b c")
