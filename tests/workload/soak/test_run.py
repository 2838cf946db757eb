"""Going on with a soak: with its own settings, wherever its services are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stubs.alerts import RUN
from workload.errors import UsageError
from workload.record.bundle import Bundle
from workload.settings import load_settings
from workload.soak.plan import load_plan
from workload.soak.run import resumed
from workload.soak.session import EXPERIMENT

if TYPE_CHECKING:
    from pathlib import Path

BASIC = {"limit": 1, "max_hops": 3, "k": 10}


def begun(folder: Path, experiment: str) -> None:
    """Write the manifest of a run with a seed, a concurrency and a port of its own."""
    settings = load_settings({**BASIC, "seed": 7, "engine_port": 8001, "results": folder}, {})
    bundle = Bundle(folder, RUN)
    bundle.start(experiment, settings.flat())
    bundle.note(plan=load_plan({"duration": "8h", "concurrency": 4}).model_dump(mode="json"))


def test_a_soak_goes_on_with_its_own_settings_and_todays_places(tmp_path: Path) -> None:
    """Another seed or concurrency would be another run; another port, or a dry run from here on, is not."""
    begun(tmp_path, EXPERIMENT)
    now = load_settings({**BASIC, "seed": 1, "engine_port": 9001, "results": tmp_path}, {})
    settings, plan = resumed(now, load_plan({"duration": "1s", "dry_run": True}), RUN)
    assert (settings.load.seed, settings.places.engine_port) == (7, 9001)
    assert (plan.duration, plan.concurrency, plan.dry_run) == (28_800.0, 4, True)


@pytest.mark.parametrize(("experiment", "run"), [("latency", RUN), (EXPERIMENT, "another"), (EXPERIMENT, "../x")])
def test_what_is_no_soak_is_refused(tmp_path: Path, experiment: str, run: str) -> None:
    """Its journal means something else, or lies somewhere else."""
    begun(tmp_path, experiment)
    with pytest.raises(UsageError):
        resumed(load_settings({**BASIC, "results": tmp_path}, {}), load_plan({"duration": "1s"}), run)
