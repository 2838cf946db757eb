"""What of a watched folder is alive: each dead part is named, with what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from workload.doctor.watched import examine_watched
from workload.services.prometheus import NoDataError, PrometheusClient, PrometheusError, Sample
from workload.watch.render import Surroundings, render
from workload.watch.subject import subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGE = "# HELP hop2rag_questions_total Questions.\nhop2rag_questions_total 1\n"
JOBS = [("vllm", "v:8000"), ("vllm-fast", "v:8000"), ("workload", "a:9465"), ("workload-timeline", "a:9465")]
RATE = "instance:vllm_prompt_tokens:rate1m"


class Stub(PrometheusClient):
    """A Prometheus that scrapes some targets and records some names."""

    def __init__(self, scraped: list[tuple[str, str]], recorded: list[str], *, is_down: bool = False) -> None:
        self.scraped, self.recorded, self.is_down = scraped, recorded, is_down

    def scrape_errors(self) -> dict[tuple[str, str], str]:
        """Return the targets."""
        if self.is_down:
            raise PrometheusError("It does not answer.")
        return dict.fromkeys(self.scraped, "")

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        """Return the recorded names."""
        del at
        if not self.recorded:
            raise NoDataError(promql, None)
        return [Sample({"__name__": name}, 0.0, 1.0) for name in self.recorded]


def opened(answer: Callable[[httpx.Request], httpx.Response]) -> Callable[[str], httpx.Client]:
    """Return a function that opens a client whose requests are answered here."""
    return lambda url: httpx.Client(base_url=url, transport=httpx.MockTransport(answer))


@pytest.fixture(params=["files", "kubernetes"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a rendered folder of each format."""
    render(tmp_path, subject("http://v:8000", "a:9465", ""), request.param, Surroundings(place="/w"))
    return tmp_path


def levels(folder: Path, client: PrometheusClient, page: str = PAGE) -> dict[str, list[str]]:
    """Return the levels of the findings by subject."""
    found: dict[str, list[str]] = {}
    for finding in examine_watched(folder, client, opened(lambda _: httpx.Response(200, text=page))):
        found.setdefault(finding.subject, []).append(finding.level)
        assert finding.level == "ok" or finding.remedy
    return found


def test_a_living_stack_has_no_fault(folder: Path) -> None:
    """A fault on what works sends people looking for what is not there."""
    found = levels(folder, Stub(JOBS, [RATE]))
    assert found == {"workload": ["ok"], "target": ["ok"] * 4, "rules": ["ok"]}


@pytest.mark.parametrize(
    ("client", "page", "subject_", "expected"),
    [
        (Stub(JOBS, [RATE]), "vllm:num_requests_running 0\n", "workload", ["fault"]),
        (Stub(JOBS[:2], [RATE]), PAGE, "target", ["ok", "ok", "fault", "fault"]),
        (Stub(JOBS, ["instance:vllm_prompt_tokens:rate10s"]), PAGE, "rules", ["fault"]),
        (Stub(JOBS, []), PAGE, "rules", ["note"]),
        (Stub([], [], is_down=True), PAGE, "workload", ["ok"]),
    ],
)
def test_each_dead_part_is_named(folder: Path, client: Any, page: str, subject_: str, expected: list[str]) -> None:
    """The reader repairs one thing after the other."""
    assert levels(folder, client, page)[subject_] == expected


def test_an_agent_that_does_not_answer_is_a_fault(folder: Path) -> None:
    """The first cause of an empty dashboard."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    first = next(iter(examine_watched(folder, Stub(JOBS, [RATE]), opened(refuse))))
    assert (first.subject, first.level) == ("workload", "fault")
    assert "a:9465" in first.says
