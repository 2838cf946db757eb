"""What several rooms test with: a steering of a soak that is called by hand, and a tokenizer as in a model's folder."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from exporter.agent.soak import SoakMetrics
from tests.stubs.alerts import RUN, message
from tests.stubs.model import write_model
from workload.charts import time_series
from workload.corpus.synthetic import generate
from workload.corpus.tokenizer import load_tokenizer
from workload.errors import DependencyDownError
from workload.harness import system_under_test
from workload.record.journal import Journal, read
from workload.services.alert import steering_alerts
from workload.soak.actions import ActionLog, AlertEffects
from workload.soak.pace import Pace
from workload.soak.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from matplotlib.figure import Figure

    from workload.corpus.hotpotqa import Question
    from workload.corpus.tokenizer import ChatTokenizer
    from workload.services.alert import Alert


RULES = steering_alerts()


@dataclass
class Helm:
    """A steering and everything around it.

    Attributes:
        answers: whether a canary is answered; a proof waits until it is.
        captured: the names of the alerts that were captured.
        marks: alert and action of each mark in the dashboards.
        now: the monotonic clock, in seconds.
        fires: the names of the alerts that Prometheus says fire; None for one that agrees with every message.
        is_silent: whether Prometheus cannot be asked; `asked` counts how often it was.
    """

    folder: Path
    dry_run: bool = False
    capture_fails: bool = False
    now: float = 0.0
    captured: list[str] = field(default_factory=list)
    marks: list[tuple[str, str]] = field(default_factory=list)
    canaries: int = 0
    fires: set[str] | None = None
    is_silent: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.pace = Pace(8, lambda: self.now)
        self.registry = CollectorRegistry()
        self.metrics = SoakMetrics(self.registry, RULES)
        self.path = self.folder / "journal.sqlite"
        self.journal = Journal(self.path, {})
        self.effects = AlertEffects(self.capture, lambda _, name, action: self.marks.append((name, action)))
        self.steering = Steering(
            pace=self.pace,
            actions=ActionLog(journal=self.journal, metrics=self.metrics, effects=self.effects, dry_run=self.dry_run),
            rules=RULES,
            run=RUN,
            prove=self.prove,
            patience_seconds=1800.0,
            confirm=self.confirm,
            monotonic=lambda: self.now,
        )

    async def prove(self) -> None:
        """Return once a canary is answered."""
        self.canaries += 1
        await self.answers.wait()

    def confirm(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Answer as Prometheus does, which by default agrees with every message."""
        self.asked += 1
        if self.is_silent:
            raise DependencyDownError("Prometheus does not answer.")
        return [alert for alert in alerts if self.fires is None or (alert.name in self.fires) == alert.is_firing]

    def capture(self, alert: Alert, _: float) -> str:
        """Note what was captured."""
        if self.capture_fails:
            raise DependencyDownError("Prometheus does not answer.")
        self.captured.append(alert.name)
        return "kept"

    async def hear(self, *alerts: dict[str, Any]) -> bool:
        """Receive a message."""
        return await self.steering.receive(message(*alerts))

    def actions(self) -> list[tuple[str, str, str]]:
        """Return the journal's actions: action, alert, status."""
        if self.journal._thread.is_alive():
            self.journal._mark().result(60)
        return [(row["action"], row["alert"], row["status"]) for row in read(self.path, "action")]

    def counted(self) -> Counter[tuple[str, str]]:
        """Return the counted actions that happened, by action and alert."""
        (family,) = [found for found in self.registry.collect() if found.name == "hop2rag_soak_actions"]
        samples = [sample for sample in family.samples if sample.name.endswith("_total")]
        return Counter(
            {(sample.labels["action"], sample.labels["alert"]): int(sample.value) for sample in samples if sample.value}
        )


@pytest.fixture
def helm(tmp_path: Path) -> Iterator[Callable[..., Helm]]:
    """Return a factory of steerings whose journals are closed at the end."""
    made: list[Helm] = []

    def make(**settings: Any) -> Helm:
        made.append(Helm(tmp_path, **settings))
        return made[-1]

    yield make
    for one in made:
        one.journal.close()


@pytest.fixture(scope="session")
def questions() -> tuple[Question, ...]:
    """Questions about a small invented world."""
    return generate(questions=12, passages=60, seed=3)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, questions: tuple[Question, ...]) -> Path:
    """A folder with a byte-level tokenizer of some thousand merges and a chat template like ChatML."""
    return write_model(tmp_path_factory.mktemp("model") / "tiny-chat", questions)


@pytest.fixture(scope="session")
def tokenizer(model_folder: Path) -> ChatTokenizer:
    """The tokenizer of that folder."""
    return load_tokenizer(model_folder)


@pytest.fixture(scope="session", autouse=True)
def uncollected() -> Iterator[None]:
    """Run the agent without a full garbage collection first: it visits every object that the tests have loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_under_test, "settled_heap", nullcontext)
        yield


@pytest.fixture
def laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay pictures out, texts, ticks and all, and leave out their pixels, which take most of the time."""

    def png(sheet: Figure) -> bytes:
        sheet.draw_without_rendering()
        return b"\x89PNG"

    monkeypatch.setattr(time_series, "png", png)
