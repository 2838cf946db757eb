"""A run that was paused or unrecorded for a good part says so, and does not count as a success."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.soak import soak, soak_session
from tests.stubs.vllm import StubVllm, Turn
from workload.services.prometheus import NoDataError, PrometheusError, Sample
from workload.soak import soak as soak_module
from workload.soak.pace import Ending, judge
from workload.soak.summary import counter_resets, recorded_share

if TYPE_CHECKING:
    from pathlib import Path


class Teller:
    """A Prometheus that answers with values, with nothing, or not at all."""

    def __init__(self, *found: list[float] | Exception) -> None:
        self.found = list(found)
        self.asked: list[str] = []

    def query(self, promql: str) -> list[Sample]:
        """Answer."""
        self.asked.append(promql)
        reported = self.found.pop(0)
        if isinstance(reported, Exception):
            raise reported
        return [Sample({}, 0.0, value) for value in reported]


GONE, NOTHING = PrometheusError("gone"), NoDataError("up", None)


@pytest.mark.parametrize(("reported", "expected"), [([1.0, 0.0], 1), ([0.0], 0), (GONE, None)])
def test_resets_are_counted_or_not_known(reported: Any, expected: int | None) -> None:
    """A Prometheus that is gone has not said that there were none."""
    client: Any = Teller(reported)
    assert counter_resets(client, "run-1") == expected
    assert counter_resets(None, "run-1") is None
    assert client.asked == ['resets(vllm:prompt_tokens_total{job="vllm",run="run-1"}[31d])']


@pytest.mark.parametrize(
    ("reported", "share"),
    [
        ([[100.0], [99.0]], 0.99),
        ([[50.0], [100.0]], 0.5),
        ([[130.0], [120.0]], 1.0),
        ([NOTHING, [100.0]], 0.0),
        ([[100.0], NOTHING], 0.0),
        ([[100.0], GONE], None),
    ],
)
def test_what_was_recorded_is_the_less_of_engine_and_runner(reported: list[Any], share: float | None) -> None:
    """Absent is nothing recorded; no answer is not known. Neither needs the runner's clock, which may have jumped."""
    client: Any = Teller(*reported)
    assert recorded_share(client, "run-1", 100.0) == share
    assert all("run-1" in promql and "@" not in promql for promql in client.asked)
    assert recorded_share(None, "run-1", 100.0) is None


FINISHED = Ending("finished", 0)


@pytest.mark.parametrize(
    ("ending", "held", "recorded", "answered", "code", "says"),
    [
        (FINISHED, 0.0, 1.0, 1.0, 0, "finished"),
        (FINISHED, 0.5, 0.5, 0.5, 0, "finished"),
        (FINISHED, None, None, 1.0, 0, "finished"),
        (FINISHED, 0.51, 1.0, 1.0, 6, "finished, but paused for 51.0% of its time"),
        (FINISHED, 1.0, 0.0, 0.0, 6, "finished, but paused for 100.0% of its time"),
        (FINISHED, 0.0, 0.49, 0.0, 4, "finished, but Prometheus recorded only 49.0% of its time"),
        (FINISHED, None, 0.0, 1.0, 4, "finished, but Prometheus recorded only 0.0% of its time"),
        (FINISHED, 0.0, 1.0, 0.49, 4, "finished, but only 49.0% of the questions were answered"),
        (FINISHED, None, None, 0.0, 4, "finished, but only 0.0% of the questions were answered"),
        (FINISHED, 0.0, 1.0, None, 4, "finished, but no question ended"),
        (Ending("SIGTERM", 143), 0.9, 0.0, 0.0, 143, "SIGTERM"),
        (Ending("stopped by VllmDown", 6), 0.9, 0.0, None, 6, "stopped by VllmDown"),
    ],
)
def test_row_23_hours_of_nothing_are_no_success(
    ending: Ending, held: float | None, recorded: float | None, answered: float | None, code: int, says: str
) -> None:
    """A script that looks at the exit code takes 0 for eight measured hours."""
    found = judge(ending, held, recorded, answered)
    assert found.exit_code == code
    assert found.why == says


def test_row_23_a_soak_that_was_paused_for_most_of_its_time_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of it: the exit code, the sentence, and no hint to go on with what has no time left."""
    monkeypatch.setattr(soak_module, "CHECKPOINT_SECONDS", 0.1)
    room = iter([2**40])
    with StubVllm() as stub:
        finished = soak(stub.url, tmp_path, {"duration": "2s"}, free=lambda _: next(room, 1))
    assert finished.exit_code == 6
    assert finished.summary["status"] == "finished"
    assert finished.summary["ending"].startswith("finished, but paused for")
    assert "Paused for" in (finished.bundle / "report.html").read_text()


@pytest.mark.parametrize(
    ("turn", "code"),
    [(Turn(status=400), 4), (Turn(usage={"prompt_tokens": -1}), 4), (Turn(then="no_usage"), 4), (Turn(), 0)],
    ids=["refused", "lies", "cut", "answered"],
)
def test_row_23_a_soak_whose_every_question_fails_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turn: Turn, code: int
) -> None:
    """Canaries are answered, so nothing pauses it: hours of failures ended with "finished" and 0."""
    monkeypatch.setattr(soak_module, "CHECKPOINT_SECONDS", 0.1)
    with StubVllm() as stub:
        stub.script = lambda _: turn
        finished = soak(stub.url, tmp_path, {"questions": 3})
    # Of so short a run the waits for the engine may be the greater part: then it says that it was paused.
    assert finished.exit_code in ({code, 6} if code else {0})
    assert ("only 0.0% of the questions were answered" in (finished.bundle / "report.html").read_text()) == (
        finished.exit_code == 4
    )


def test_row_23_a_soak_that_was_not_scraped_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run had taken its targets: the first soak ended with "finished" and 0, and its panels are empty."""
    monkeypatch.setattr(soak_module, "CHECKPOINT_SECONDS", 0.1)
    with StubVllm() as stub:
        whole = soak_session(stub.url, tmp_path, {"questions": 5})
        whole._scraper = Teller(NOTHING, NOTHING, [0.0])  # type: ignore[assignment]
        finished = whole.run()
    assert finished.exit_code == 4
    assert "recorded only 0" in finished.summary["ending"]
