"""`hop2rag` with stubs around every run, to be stopped from outside.

Usage: python -m tests.faults.stub_run FOLDER SECONDS_A_CALL ARGUMENT ...
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.stubs.vllm import Turn
from tests.stubs.world import stub_world
from workload.cli import run_command_line
from workload.corpus.synthetic import generate


def main(folder: Path, seconds: float, arguments: list[str]) -> int:
    """Return the exit code of a command line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `make faults &` would have it ignored
    os.environ["HOP2RAG_CACHE"] = str(folder / "cache")
    os.environ["ACKNOWLEDGED"] = str(folder / "acknowledged")
    questions = generate(questions=40, passages=120, seed=3)
    with stub_world(questions, folder, lambda _: Turn(seconds=seconds)):
        return run_command_line([*arguments, "--results", str(folder / "results")])


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
