"""On what a run was measured."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from workload.record.host import host_facts

if TYPE_CHECKING:
    from pathlib import Path


def test_the_host_is_told_even_where_the_kernel_names_no_processor(tmp_path: Path) -> None:
    """On ARM there is no line `model name`; a run must not fail for it."""
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name : A Processor @ 2 GHz\nmodel name : A Processor\n")
    assert host_facts(tmp_path / "cpuinfo")["processor"] == "A Processor @ 2 GHz"
    assert host_facts(tmp_path / "none")["processor"] == os.uname().machine
    assert host_facts()["cores"] == len(os.sched_getaffinity(0))
