"""A soak on the stub engine: real journal, real webhook, no Prometheus unless a test brings one."""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import Progress

from tests.stubs.agent import StubEmbedder, StubStore
from tests.stubs.questions import questions_about
from workload.engine.endpoint import open_client
from workload.engine.facts import read_facts
from workload.engine.launcher import RunningEngine
from workload.record.bundle import Bundle
from workload.settings import load_settings
from workload.soak.environment import SoakEnvironment
from workload.soak.plan import load_plan
from workload.soak.session import EXPERIMENT, SoakSession

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workload.engine.profile import VllmProfile
    from workload.soak.reporting import FinishedSoak

RUN = "20250131-235959-soak"


@dataclass
class StubLauncher:
    """Brings up what runs already, however often it is asked; `events` counts starts and stops."""

    url: str
    events: list[str] = field(default_factory=list)

    @contextmanager
    def start(self, _: VllmProfile) -> Iterator[RunningEngine]:
        """Attach to the stub."""
        with open_client(self.url) as client:
            facts = read_facts(client)
        self.events.append("start")
        yield RunningEngine(self.url, facts, None, None)
        self.events.append("stop")


def quiet_progress() -> Progress:
    """Return a display without a terminal."""
    return Progress(console=Console(file=io.StringIO(), width=200))


def soak_session(url: str, folder: Path, flags: dict[str, Any], *, corpus: int = 7, **parts: Any) -> SoakSession:
    """Return a soak of the stub at `url` with its results in `folder`; a folder with results resumes."""
    settings = load_settings(
        {"limit": 1, "max_hops": 1, "k": 5, "figures": False, "request_timeout": 5.0, "results": folder}, {}
    )
    plan = load_plan({"duration": "60s", **flags})
    bundle = Bundle(folder, RUN)
    if bundle.is_begun:
        bundle.resume()
    else:
        bundle.start(EXPERIMENT, settings.flat())
        bundle.note(plan=plan.model_dump(mode="json"))
    environment = SoakEnvironment(
        **{
            "launcher": StubLauncher(url),
            "owns_engine": False,
            "store": cast("Any", StubStore()),
            "embedder": StubEmbedder(),
            "questions": questions_about(range(corpus)),
            **parts,
        }
    )
    return SoakSession(environment, settings, plan, bundle, quiet_progress())


def soak(url: str, folder: Path, flags: dict[str, Any], **parts: Any) -> FinishedSoak:
    """Run a soak to its end."""
    return soak_session(url, folder, flags, **parts).run()
