"""Row 29: words of a model, a server, a recording or a file are data wherever they are shown."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from exporter.cli import main as exporter_main
from exporter.plain_text import plain
from workload.charts.canvas import sheet
from workload.charts.time_series import png
from workload.cli import run_command_line
from workload.engine.facts import EngineFacts, facts_from
from workload.export.panel_series import PanelSeries, to_csv
from workload.files.csv_cells import cell, text_in
from workload.harness.ask import Answered
from workload.panels.vllm_metrics import HIT_RATIO
from workload.record.bundle import Bundle
from workload.record.results import Finished
from workload.report.console import PlainConsole
from workload.report.headlines import print_finished, print_verdicts
from workload.report.page import render, section_of

if TYPE_CHECKING:
    from workload.experiment import Study

ROOT = Path(__file__).parents[2]
# Markup, links, commands of a terminal, text that turns back, half a character.
WORDS = (
    "[/]",
    "[/b] x",
    "a [bold]b[/bold]",
    "[link=http://evil.example]click[/link]",
    "see [1] and [2/3]",
    ":bomb:",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31mred",
    "ok\r\x1b[1A[OK] all passed",
    "\u202egnp.exe",
    "a\x00b\x08c",
    "\ud800",
    "tab\tand\nbreak",
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printed(show: Any, console: type[Console] = Console) -> str:
    """Return what is printed by a function that is given a console, which is no terminal."""
    out = io.StringIO()
    show(console(file=out, width=200))
    return out.getvalue()


def letters(text: str) -> str:
    """Return what must be left of a text: rich drops some of the control characters, and breaks lines."""
    return re.sub(r"[^A-Za-z0-9\[\]/=:.]", "", text)


@given(st.text(max_size=60) | st.sampled_from(WORDS))
def test_row_29_plain_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    """Whatever it was, it can be written anywhere, and what was plain is as it was."""
    found = plain(text)
    assert not OBEYED.search(found)
    assert found.encode().decode() == found
    assert plain(found) == found
    if text.isprintable():
        assert found == text


@pytest.mark.parametrize("words", WORDS)
def test_row_29_the_console_prints_words_as_they_are(words: str) -> None:
    """Titles, cells, rules, progress: one console for all of them, so that none can be forgotten."""

    def show(console: Console) -> None:
        console.print(words)
        console.rule(words)
        table = Table("head", title=words)
        table.add_row(words)
        console.print(table)
        console.log(words)
        with Progress(console=console) as progress:
            progress.console.print(words)

    found = printed(show, PlainConsole)
    assert not OBEYED.search(found)
    for line in plain(words).splitlines():
        assert letters(found).count(letters(line)) >= 3


@pytest.mark.parametrize("words", WORDS)
def test_row_29_an_answer_is_printed_as_it_is(words: str) -> None:
    """It has been paid for; "[/]" ended it with a traceback, and an escape sequence renamed the window."""
    reported: Any = {"answer": words, "trajectory": {"queries": [words]}, "supporting_facts": [(words, 1)]}
    answer: Any = SimpleNamespace(**reported, reason=None, termination="enough", hops=1)
    found = printed(Answered(answer, [], []).show)
    assert not OBEYED.search(found)
    assert letters(found).count(letters(words)) >= 3


@pytest.mark.parametrize("words", WORDS)
def test_row_29_a_finished_run_is_printed_as_it_is(words: str) -> None:
    """Its summary may be a recording's."""
    study: Any = SimpleNamespace(
        name=words, title=words, columns=(words,), headline=lambda _: [(words,)], verdicts=lambda _: [words]
    )
    finished = Finished("run", {"replay_of": words}, (Path(words.replace("\x00", "")),), Path("bundle"))
    found = printed(lambda console: print_finished(console, study, finished))
    assert not OBEYED.search(found)
    assert not OBEYED.search(printed(lambda console: print_verdicts(console, study, finished)))


@pytest.mark.parametrize("words", WORDS)
def test_row_29_an_error_says_words_as_they_are(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An error quotes what it refuses."""
    assert run_command_line(["run", words]) == 2
    assert not OBEYED.search(capsys.readouterr().err)


def test_row_29_the_exporter_s_error_says_words_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name is a text, too."""
    path = tmp_path / "a\x1b[2Jb"
    assert exporter_main(["--web.config.file", str(path)]) == 2
    printed_error = capsys.readouterr().err
    assert "b" in printed_error
    assert not OBEYED.search(printed_error)


def test_row_29_no_console_takes_markup() -> None:
    """A console of rich's own in a command would take a server's words for markup again."""
    for path in sorted((ROOT / "workload").rglob("*.py")):
        text = path.read_text()
        assert not re.search(r"(?<!Plain)\bConsole\(", text.replace("class PlainConsole(Console)", "")), path
        assert "markup=True" not in text
        assert text.count("TextColumn(") == text.count('TextColumn("{task.description}", markup=False)'), path


ODD_VERSIONS = (5, True, None, "", "\ud800", "0.32.0\n", "a" * 65, "<b>", "x y", "[/]", [], {}, "=1+1", 'a"b')


def reported(version: Any = "0.32.0", **model: Any) -> EngineFacts:
    """Return the facts of a server that reports these."""
    return facts_from(version, {"id": "m", **model}, {"num_gpu_blocks": "9" * 5000, "block_size": "16"})


@pytest.mark.parametrize("version", ODD_VERSIONS, ids=repr)
def test_row_29_a_version_that_is_none_is_absent(version: Any) -> None:
    """It becomes a label of the agent's metrics, each scrape of which it had failed."""
    assert reported(version).version is None


@pytest.mark.parametrize("version", ["0.6.6", "0.16.0rc1.dev3+g1a2b3c4.cpu", "0.11.0+cu128", "dev", "v1-custom_2"])
def test_row_29_a_release_keeps_its_name(version: str) -> None:
    """Builds of one's own are called as they please, within a label."""
    assert reported(version).version == version


@pytest.mark.parametrize("name", [5, None, "", "a\nb", "\x1b[31m", "\ud800", "m" * 257, ["m"]], ids=repr)
def test_row_29_a_model_without_a_name_is_no_model(name: Any) -> None:
    """Every request names it, and so does every picture."""
    with pytest.raises(ValueError, match="line of text"):
        reported(id=name)


def test_row_29_sizes_of_another_type_are_absent() -> None:
    """A text in place of a length would be compared with numbers."""
    for length in ("8192", True, -1, 0, 1e9, 10**400, [1]):
        assert reported(max_model_len=length).max_model_len is None
    assert reported(root=5).model_path is None
    assert reported(root="\x00").model_path is None
    assert reported().num_gpu_blocks is None


@pytest.mark.parametrize("words", ["$\\frac$", "$x", "a$b$c", "$\\mathdefault{", "100 % of $5"])
def test_row_29_a_dollar_is_no_formula(words: str) -> None:
    """A model called so ended the drawing of a run that had been measured."""
    canvas, (axes,) = sheet(words, words, [2.0])
    axes.set_xlabel(words)
    axes.plot([1, 2], [1, 2], label=words)
    axes.set_yticks([1], [words])
    axes.legend(title=words)
    axes.annotate(words, (1, 1))
    canvas.draw_without_rendering()
    assert png(canvas).startswith(b"\x89PNG")
    assert isinstance(canvas, Figure)
    assert not any(text.get_parse_math() for text in canvas.findobj(lambda artist: hasattr(artist, "get_parse_math")))


FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "=HYPERLINK(1)", "\uff1d1", "'x", "-x")


@pytest.mark.parametrize("words", FORMULAS)
def test_row_29_no_cell_is_a_formula(tmp_path: Path, words: str) -> None:
    """A spreadsheet computes what begins so, with the rights of whoever opens it; numbers stay numbers."""
    bundle = Bundle(tmp_path, "run")
    with bundle.write_csv("x.csv", ("arm", words), [(words, -1.5), ("-1.5", "2")]).open(newline="") as stream:
        rows = list(csv.reader(stream))
    quoted = "'" + words.replace("\r", "\n")
    assert rows == [["arm", quoted], [quoted, "-1.5"], ["-1.5", "2"]]
    answer = PanelSeries(HIT_RATIO.lines[0], "", {"arm": words}, np.array([1.0]), np.array([-2.0]))
    assert list(csv.reader(io.StringIO(to_csv([answer]), newline="")))[1][1:] == [quoted, "1.000", "-2.0"]


@given(st.text(max_size=10) | st.sampled_from(FORMULAS))
def test_row_29_a_cell_comes_back_as_it_was(text: str) -> None:
    """A figure drawn from a CSV finds its arm again."""
    assert text_in(cell(text)) == text.replace("\r", "\n")


def test_row_29_a_page_shows_words_as_they_are(tmp_path: Path) -> None:
    """The report opens in a browser, from disk."""
    words = "</pre><script>alert(1)</script>\"'><img src=x onerror=y>"
    bundle = Bundle(tmp_path, "run")
    bundle.note(why=words)
    bundle.note_promql(words, [words])
    summary = {"replay_of": words, "accounting": [{words: words}], "quality": {}}
    study = cast("Study", SimpleNamespace(name=words, title=words, columns=(words,), headline=lambda _: [(words,)],
                                          verdicts=lambda _: [words]))  # fmt: skip
    page = render(words, 2 * [section_of(study, Finished("run", summary, (), bundle.folder))])
    assert not re.search(r"<(script|img)\b", page)
