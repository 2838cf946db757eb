"""What is kept of the moment of an alert, and how much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.stubs.alerts import RUN, alert, message
from tests.stubs.drawing import Silent
from workload.record.bundle import Bundle
from workload.soak import environment
from workload.soak.environment import FOLDER, panel_capture

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_alert_is_kept_with_its_time_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours later the minute is hard to find in the graph; and an alert that flaps must not fill the disk."""
    monkeypatch.setattr(environment, "MOST_CAPTURES", 1)
    bundle = Bundle(tmp_path, RUN)
    keep = panel_capture(cast("Any", Silent()), bundle, {"run": RUN, "experiment": "soak", "arm": "base"})
    reported = message(alert("VllmKvCacheNearlyFull", "capture")).alerts[0]
    assert keep(reported, 1_700_000_000.0) == f"kept in {FOLDER}/20231114T221320-VllmKvCacheNearlyFull"
    (folder,) = (bundle.folder / FOLDER).iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".png", ".csv", ".json"}
    assert keep(reported, 1_700_000_300.0) == "not kept: there are 1 captures already"
