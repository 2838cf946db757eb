"""A picture is copied without its text: its subject, and that it is simulated, must be inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.text import Text

from workload.charts import canvas
from workload.kv_cache.run import FIGURES
from workload.kv_cache.simulated import ORIGIN
from workload.kv_cache.source import CallSource, SentCall
from workload.kv_cache.summary import summarize
from workload.theory.structure import AgentCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from tests.workload.kv_cache.conftest import Simulation
    from workload.corpus.tokenizer import ChatTokenizer

Painted = list["Figure"]


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Painted:
    """Collect the figures that are saved; they are saved all the same."""
    found: Painted = []

    def save(figure: Figure, path: Path) -> Path:
        found.append(figure)
        return canvas.save(figure, path)

    monkeypatch.setattr("workload.kv_cache.chart_kv_cache.save", save)
    return found


def words(figure: Figure) -> str:
    """Return all text of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("name", FIGURES)
def test_a_simulation_is_marked_inside_every_picture(
    simulation: Simulation, tokenizer: ChatTokenizer, tmp_path: Path, painted: Painted, name: str
) -> None:
    """Twice: in a panel's title, and in the footer with the run, the tokenizer, the block size and the counts."""
    summary = {
        "run": "20250101-kv",
        **summarize(CallSource(kind="simulated", origin=ORIGIN, arms=simulation.arms, block_size=16), tokenizer),
    }
    assert FIGURES[name](summary, tmp_path / name).stat().st_size > 20_000
    text = words(painted[0])
    assert "SIMULATED\nreplies" in text
    assert ORIGIN in text
    for reported in ("20250101-kv", "tiny-chat", "block size 16", "6 questions", *simulation.arms):
        assert reported in text


@pytest.mark.parametrize("name", FIGURES)
def test_prompts_from_elsewhere_are_drawn_without_the_mark(tmp_path: Path, painted: Painted, name: str) -> None:
    """One arm, unknown nodes, no parts and no interval: the pictures must do without, and not claim a simulation."""
    calls = [SentCall(AgentCall(str(number), "call", 1, [1, 2, 3, number])) for number in range(3)]
    found = summarize(
        CallSource(kind="prompts", origin="prompts from x.jsonl", arms={"prompts": calls}, block_size=16), None
    )
    paint: Callable[[dict[str, Any], Path], Path] = FIGURES[name]
    assert paint({"run": "r", **found}, tmp_path / name).exists()
    text = words(painted[0])
    assert "SIMULATED" not in text
    assert "prompts from x.jsonl" in text


def test_the_breakdown_answers_in_its_title(simulation: Simulation, tmp_path: Path, painted: Painted) -> None:
    """The tokens that must be computed come first: a rate alone is gamed by a longer prompt."""
    found = summarize(CallSource(kind="simulated", origin=ORIGIN, arms=simulation.arms, block_size=16), None)
    FIGURES["token_breakdown.png"]({"run": "r", **found}, tmp_path / "x.png")
    computed = found["arms"]["append-only"]["uncached_tokens_per_question"]
    assert f"append-only leaves {computed:,.0f} prompt tokens per question to compute" in words(painted[0])
