"""Keep the last /metrics of every target of a run while it runs, one file for each run, arm and job.

Usage: python expositions.py TARGETS_DIR OUT_DIR        (until SIGTERM)

The targets are those that Prometheus reads: each arm rewrites them, so the last answer of an arm is its fullest.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

import requests

INTERVAL_SECONDS = 5.0  # a scrape costs vLLM 5 ms
TIMEOUT_SECONDS = 2.0


def keep(targets: Path, out: Path, session: requests.Session) -> None:
    """Ask every target once and keep what it answers; one that does not answer keeps its last answer."""
    for job in sorted(targets.glob("*.json")):
        for group in json.loads(job.read_text()):
            labels = group["labels"]
            for address in group["targets"]:
                try:
                    answer = session.get(f"http://{address}/metrics", timeout=TIMEOUT_SECONDS)
                    answer.raise_for_status()
                except requests.RequestException:
                    continue  # between two arms
                path = out / f"{labels['run']}-{labels['arm']}-{job.stem}.prom"
                draft = path.with_suffix(".draft")
                draft.write_text(answer.text)
                draft.replace(path)


def main() -> None:
    """Ask until told to stop."""
    targets, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    session = requests.Session()
    session.trust_env = False
    while not stop.wait(INTERVAL_SECONDS):
        keep(targets, out, session)


if __name__ == "__main__":
    main()
