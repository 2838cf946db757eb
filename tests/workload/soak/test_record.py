"""What a soak reads back from its journal without loading it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from workload.fleet.account import FATES
from workload.record.journal import Journal
from workload.soak.record import SoakRecord

if TYPE_CHECKING:
    from pathlib import Path


def test_sums_the_fates_of_all_calls(tmp_path: Path) -> None:
    """A soak has a million calls; the database adds them up, and keeps those apart of which less is known."""
    path = tmp_path / "journal.sqlite"
    nothing = dict.fromkeys(FATES, 0)
    with Journal(path, {}) as journal:
        for call in range(1, 4):
            known = {"bound": 80, "in_fleet": 60, "on_engine": 60} if call > 1 else {}
            journal.insert("token_fate", {"call": call, **nothing, "hit": 60, "evicted": 20, "cold": 20, **known})
    found = SoakRecord(path).token_fates()
    assert found is not None
    assert (found["calls"], found["dearest"]) == (3, [])
    assert {fate: tokens for fate, tokens in found["tokens"].items() if tokens} == {
        "hit": 180,
        "evicted": 60,
        "cold": 60,
    }
    assert found["chain"] == {"prompt": 200, "bound": 160, "in_fleet": 120, "on_engine": 120, "delivered": 120}


def test_a_journal_without_fates_has_none(tmp_path: Path) -> None:
    """Its engine cached nothing, or it is older than the ledger."""
    path = tmp_path / "journal.sqlite"
    Journal(path, {}).close()
    assert SoakRecord(path).token_fates() is None
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE token_fate")
        connection.commit()
    assert SoakRecord(path).token_fates() is None
