"""Runs every experiment with a secret wherever a secret may be; `test_secrets.py` looks for it in what was left behind.

Usage: python -m tests.faults.secret_runs FOLDER SECRET [FLAG ...]
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import httpx
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.stubs.agent import StubStore, document
from tests.stubs.model import write_model
from tests.stubs.vllm import Turn
from tests.stubs.world import stub_world
from workload.cli import run_command_line
from workload.corpus.hotpotqa import Paragraph
from workload.corpus.synthetic import generate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workload.corpus.hotpotqa import Question

EXPERIMENTS = ("kv-cache", "gpu-memory", "vllm-metrics", "pipeline", "context-growth", "concurrency", "latency")
SMALL = ("--limit", "2", "--max-hops", "1", "--concurrency", "2")
# The agent's metrics are read in the middle of a run, and this request fails.
SCRAPED_AT, FAILED_AT = 6, 8


class Watched:
    """The engine's script: counts the secrets it gets, scrapes the agent, and replies and fails with the secret."""

    def __init__(self, folder: Path, secret: str) -> None:
        self.folder, self.secret = folder, secret
        self.seen: Counter[str] = Counter()

    def __call__(self, body: Mapping[str, Any]) -> Turn:
        """Return the next turn."""
        self.seen.update(requests=1, reported=self.secret in json.dumps(body))
        if self.seen["requests"] % 10 == SCRAPED_AT:
            self.scrape()
        if self.seen["requests"] % 10 == FAILED_AT:
            return Turn(status=400, message=f"{self.secret} is too long")
        return Turn(self.secret) if "response_format" not in body else Turn()

    def scrape(self) -> None:
        """Keep what Prometheus would be served."""
        for group in json.loads((self.folder / "cache" / "targets" / "workload.json").read_text()):
            for page in ("metrics", "metrics/timeline"):
                text = httpx.get(f"http://{group['targets'][0]}/{page}", trust_env=False).raise_for_status().text
                (self.folder / f"{page.replace('/', '-')}-{self.seen['requests']}.prom").write_text(text)


def planted(question: Question, secret: str) -> Question:
    """Return a question with the secret in its text, its answer and its documents."""
    context = tuple(Paragraph(part.title, (*part.sentences, f"It is {secret}.")) for part in question.context)
    return replace(question, question=f"{question.question} {secret}", answer=secret, context=context)


def main(folder: Path, secret: str, *flags: str) -> int:
    """Run all; return 0 if each ended as it should."""
    os.environ["HOP2RAG_CACHE"] = str(folder / "cache")
    os.environ["ACKNOWLEDGED"] = str(folder / "acknowledged")
    questions = tuple(planted(question, secret) for question in generate(questions=12, passages=60, seed=3))
    found = tuple(document(number, f"Passage {number} is about {secret}.") for number in range(10))
    script, drawn, save = Watched(folder, secret), [], Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.extend(artist.get_text() for artist in figure.findobj(Text))  # type: ignore[call-overload]
        save(figure, *arguments, **options)

    model = write_model(folder.parent / "model", questions)
    with stub_world(questions, model, script, StubStore((found,))), patch.object(Figure, "savefig", savefig):
        codes = {
            name: run_command_line(["run", name, *SMALL, *flags, "--results", str(folder / "results")])
            for name in EXPERIMENTS
        }
    refused = run_command_line(["run", "latency", "--vllm-endpoint", f"http://user:{secret}@127.0.0.1:8000"])
    (folder / "drawn.txt").write_text("\n".join(drawn))
    (folder / "codes.json").write_text(json.dumps({**codes, "refused": refused, **script.seen}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
