"""One load on one engine: an experiment alone, the continuous load while nobody else wants it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from workload.claim import Claim

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys, pathlib
from workload.claim import Claim
with Claim(pathlib.Path(sys.argv[1])).alone(lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_an_experiment_keeps_the_load_out(tmp_path: Path) -> None:
    """Two loads on one engine measure neither."""
    with Claim(tmp_path).shared() as may_ask:
        assert may_ask
    with Claim(tmp_path).alone(lambda: None), Claim(tmp_path).shared() as may_ask:
        assert not may_ask
    with Claim(tmp_path).shared() as may_ask:
        assert may_ask


def test_an_experiment_waits_for_the_question_under_way(tmp_path: Path) -> None:
    """Cut off, it would be a failure that nobody caused; and who waits is told why."""
    told, held = threading.Event(), threading.Event()

    def experiment() -> None:
        with Claim(tmp_path).alone(told.set):
            held.set()

    thread = threading.Thread(target=experiment)
    with Claim(tmp_path).shared():
        thread.start()
        assert told.wait(10)
        assert not held.is_set()
    thread.join(10)
    assert held.is_set()


def test_a_killed_experiment_holds_nothing(tmp_path: Path) -> None:
    """A file that says "busy" would outlive it, and the load would stay away for ever."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with Claim(tmp_path).shared() as may_ask:
            assert not may_ask
        process.kill()
        process.wait()
    with Claim(tmp_path).shared() as may_ask:
        assert may_ask
