"""A soak in a process of its own, to be killed: `python -m tests.stubs.soak_process URL FOLDER JSON-FLAGS`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from prometheus_client import disable_created_metrics

from tests.stubs.soak import soak
from workload.soak import soak as soak_module


def main() -> int:
    """Run or go on with a soak that writes five checkpoints a second; return its exit code."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    soak_module.CHECKPOINT_SECONDS = 0.2
    url, folder, flags = sys.argv[1:4]
    return soak(url, Path(folder), json.loads(flags), corpus=int(os.environ.get("CORPUS", "7"))).exit_code


if __name__ == "__main__":
    sys.exit(main())
