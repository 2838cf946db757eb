"""The picture of a comparison's result, from measured rows to what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.stubs.drawing import drawing_of
from tests.stubs.run import call, measured, question, run_of
from workload.charts import paired
from workload.charts.ab import draw_questions
from workload.charts.caching import draw_result
from workload.charts.paired import MAX_ARMS, lightest
from workload.experiments.ab import ab_experiment
from workload.experiments.arms import parse_arms
from workload.experiments.vllm_metrics import OFF, ON, VLLM_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from workload.charts.drawing import Drawing
    from workload.experiment import Experiment
    from workload.record.results import RunData

# Questions of 1, 2, ... seconds, each shortened by another part; a failed one has no line.
CHANGES = (-0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.1)


def run(arms: Sequence[str], changes: Sequence[float] = CHANGES) -> RunData:
    """Return a run in which every later arm changes the questions' times by `changes` and serves half of the tokens."""
    rows = [
        (number, arm, float(number + 1) * (1 + change * (arm != arms[0])))
        for number, change in enumerate(changes)
        for arm in arms
    ]
    questions = [
        question(row, arm, question_id=f"q{number}", duration_seconds=seconds)
        for row, (number, arm, seconds) in enumerate(rows)
    ]
    calls = [
        call(row, arm, cached_tokens=50 * (arm != arms[0]), reusable_tokens=64) for row, (_, arm, _) in enumerate(rows)
    ]
    windows = [measured(arm, caching=arm != OFF.name) for arm in arms]
    return run_of(windows, calls, questions)


def drawn(
    experiment: Experiment,
    data: RunData,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    draw: Callable[[Drawing], Path] = draw_result,
) -> Figure:
    """Return the picture of the result, as it was to be saved."""
    kept: list[Figure] = []

    def keep(canvas: Figure, path: Path) -> Path:
        kept.append(canvas)
        return path

    monkeypatch.setattr(paired, "save", keep)
    summary: dict[str, Any] = {**experiment.reduce(data), "order": "AB", "replay_of": None, "accounting": []}
    draw(drawing_of(experiment, data, summary, folder))
    return kept[0]


def panel(canvas: Figure, title: str) -> Any:
    """Return the panel with this title."""
    return next(axes for axes in canvas.axes if axes.get_title(loc="left").startswith(title))


def test_each_question_is_a_line_to_its_own_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of two medians hides that they are of the same questions; the line of each is the result."""
    canvas = drawn(VLLM_METRICS, run((OFF.name, ON.name)), tmp_path, monkeypatch)
    axes = panel(canvas, "End to end")
    lines = axes.lines[: len(CHANGES)]
    assert [list(line.get_xdata()) for line in lines] == [[0, 1]] * len(CHANGES)
    assert [line.get_ydata()[1] for line in lines] == pytest.approx(CHANGES)
    assert {line.get_ydata()[0] for line in lines} == {0}
    assert axes.get_title(loc="left").splitlines()[1].startswith("-20.0% [")
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["prefix-off\n4 s", "prefix-on\n3.2 s"]


def test_the_title_is_the_result_with_what_limits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied picture must still say that drift can be part of it."""
    canvas = drawn(VLLM_METRICS, run((OFF.name, ON.name)), tmp_path, monkeypatch)
    title = " ".join(canvas.get_suptitle().split())
    assert title.startswith("The cache served 50.0% of the prompt tokens; a question's time changed by -20.0% [")
    assert title.endswith("(one start per arm)")
    words = [text.get_text() for text in panel(canvas, "Prompt tokens served").texts]
    assert words == ["caching off", "50.0% served; the prompts allow 64.0% (tick)"]


def test_all_quantities_share_the_scale_of_the_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drift of 5 % drawn on a scale of its own would look as large as an effect of 50 %."""
    canvas = drawn(VLLM_METRICS, run((OFF.name, ON.name)), tmp_path, monkeypatch)
    scales = {axes.get_ylim() for axes in canvas.axes if "n=" in axes.get_title(loc="left")}
    assert len(scales) == 1


@pytest.mark.parametrize(("changes", "words"), [((), "cannot be compared"), ((-0.5, -0.4), "no CI")])
def test_too_few_questions_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: tuple[float, ...], words: str
) -> None:
    """The picture of a run of two questions, or of none that both arms answered, claims no interval."""
    canvas = drawn(VLLM_METRICS, run((OFF.name, ON.name), changes), tmp_path, monkeypatch)
    assert words in canvas.get_suptitle().replace("\n", " ")


def test_a_picture_of_many_arms_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`optimize` compares a dozen arms; the fastest are drawn, and the others are named."""
    arms = parse_arms(("original", *(f"arm{number}:max-num-seqs={number + 1}" for number in range(MAX_ARMS + 2))))
    canvas = drawn(ab_experiment(arms), run([arm.name for arm in arms]), tmp_path, monkeypatch, draw_questions)
    assert len(canvas.axes) == 1 + 4 * MAX_ARMS
    assert f"not drawn: arm{MAX_ARMS}, arm{MAX_ARMS + 1}" in canvas.get_supxlabel()


def test_the_lightest_load_is_the_one_with_the_fewest_questions() -> None:
    """By name `c16` comes before `c4`."""
    assert lightest(["c16", "c4", "c64"]) == "c4"
