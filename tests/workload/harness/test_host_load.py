"""The host's CPU in a window: whose it was, by the kernel's counters."""

from __future__ import annotations

import os
import subprocess
import sys

from workload.harness.host_load import HostClock, host_clock, host_load

BURN = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"


def test_what_neither_the_run_nor_idle_took_was_others() -> None:
    """The shares are of all cores: two busy ones of four are half."""
    start, end = HostClock(1000.0, 400.0, 50.0), HostClock(1040.0, 438.0, 60.0)
    assert host_load(start, end, knows_engine=True) == {"host_busy": 0.95, "host_others": 0.7}


def test_an_engine_of_unknown_process_is_not_another_program() -> None:
    """Its CPU would be called someone else's."""
    start, end = HostClock(1000.0, 400.0, 50.0), HostClock(1040.0, 438.0, 60.0)
    assert host_load(start, end, knows_engine=False) == {"host_busy": 0.95, "host_others": None}


def test_a_window_of_no_time_has_no_load() -> None:
    """The kernel counts in hundredths of a second."""
    clock = HostClock(1000.0, 400.0, 50.0)
    assert host_load(clock, clock, knows_engine=True) == {"host_busy": None, "host_others": None}


def test_a_child_and_its_cpu_belong_to_the_run() -> None:
    """The engine, the exporter and Prometheus are children; an ended one must not lose what it used."""
    before = host_clock(os.getpid())
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        running = host_clock(None)
        child.communicate(b"\n")
    ended = host_clock(None)
    assert running.own - before.own >= 0.25
    assert ended.own >= running.own
    assert before.whole < ended.whole
    assert before.used <= ended.used
