"""Documents, configuration and docstrings name files and modules; a name outlives its file unless something fails."""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path

import pytest

from tests.test_structure import PACKAGES, SOURCES, TESTS
from workload.analysis.token_fates import token_fates
from workload.record.results import Measured, read_run, total

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "benchmarks", "docs", "exporter", "grafana", "prometheus", "tests", "workload")
KINDS = ("*.md", "*.yml", "*.yaml", "*.sh", "*.service", "Dockerfile*")
WRITTEN = sorted(
    {
        *(ROOT / name for name in ("Makefile", "pyproject.toml", ".ci/run", ".env.example")),
        *(path for kind in KINDS for path in ROOT.glob(kind)),
        *(path for folder in FOLDERS for kind in KINDS for path in (ROOT / folder).rglob(kind)),
    }
)
PAGES = [path for path in WRITTEN if path.suffix == ".md"]
# A path of ours with a suffix, unless something stands before it: a URL, or a folder of another tree.
PATH = re.compile(rf"(?<![\w/.}}-])(?:{'|'.join(FOLDERS)})/[\w./-]+\.(?:py|md|ya?ml|toml|json|sh|lock|html|png)\b")
MODULE = re.compile(rf"(?:`|-m |from |import )((?:{'|'.join(PACKAGES)})(?:\.(?!json\b)[A-Za-z_]\w*)+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
METRIC = re.compile(r"(?<![\w/.-])(?:(?:hop2rag|nvml)_|instance:|vllm:)[a-z0-9_:]+(?![\w*{./-])")
LISTS = ("docs/metrics.md", "prometheus/rules/vllm.yml", "prometheus/vllm_metrics.yaml")
PLAN = re.compile(r"\b[Tt]he plan(?:'s)?\b")
GLOSSARY = ROOT / "docs" / "glossary.md"
MAX_TERMS = 25


def missing_paths(text: str) -> list[str]:
    """Return the paths of ours that a text names and that are not there."""
    named = dict.fromkeys(PATH.findall(text))
    return [name for name in named if not (ROOT / name).exists()]


def is_there(module: str) -> bool:
    """Return whether a dotted name is a package, a module, or a name that its module mentions."""
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    *parents, name = module.split(".")
    holder = ROOT.joinpath(*parents)
    home = holder / "__init__.py" if holder.is_dir() else holder.with_suffix(".py")
    return home.exists() and re.search(rf"\b{name}\b", home.read_text()) is not None


def missing_modules(text: str) -> list[str]:
    """Return the modules of ours, or names in them, that a text mentions and that are not there."""
    return [module for module in dict.fromkeys(MODULE.findall(text)) if not is_there(module)]


def test_every_path_and_module_that_is_written_down_exists() -> None:
    """Whoever follows a document to a file that has moved stops trusting the document."""
    texts = {path: path.read_text() for path in (*WRITTEN, *SOURCES)}
    offenders = {
        str(path.relative_to(ROOT)): lost
        for path, text in texts.items()
        if (lost := [*missing_paths(text), *missing_modules(text)])
    }
    assert len(texts) > len(SOURCES)
    assert offenders == {}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("see `workload/services/prometheus.py`", []),
        ("see `workload/prometheus.py`", ["workload/prometheus.py"]),
        ("https://example.org/docs/prometheus.yml and /opt/exporter/bin/x.py", []),
        ("`workload.harness.loops` and `workload.harness.loops.closed_loop`", []),
        ("`workload.load`, `workload.harness.loops.gone`", ["workload.load", "workload.harness.loops.gone"]),
    ],
)
def test_a_name_without_its_file_is_seen(text: str, lost: list[str]) -> None:
    """A check that finds nothing anywhere proves nothing."""
    assert [*missing_paths(text), *missing_modules(text)] == lost


def test_every_link_between_pages_leads_somewhere() -> None:
    """A page that cannot be reached is not read."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target, _ in LINK.findall(page.read_text())
        if target and not (page.parent / target).exists()
    ]
    assert broken == []


def missing_metrics(text: str) -> list[str]:
    """Return the metrics that a text names and that neither we, nor our rules, nor any release of vLLM has."""
    known = {name for path in LISTS for name in re.findall(r"[\w:]+", (ROOT / path).read_text())}
    known |= {f"{name}{part}" for name in known for part in ("_total", "_count", "_sum", "_bucket")}
    return sorted({*METRIC.findall(text)} - known)


def test_every_metric_that_a_page_names_exists() -> None:
    """A query that is copied from a page must find its series; the changelog alone names what there was."""
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in PAGES if path.name != "CHANGELOG.md"}
    assert {page: lost for page, text in texts.items() if (lost := missing_metrics(text))} == {}
    assert missing_metrics("`hop2rag_gone_total`, `hop2rag_hops_count`, `vllm:gone`") == [
        "hop2rag_gone_total",
        "vllm:gone",
    ]


def test_the_picture_shows_a_questions_way_through_modules() -> None:
    """One picture shows a newcomer where to begin; a box without its module would lead nowhere."""
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```mermaid")[1].split("```")[0]
    folders = {name.split("/")[1] for name in PATH.findall(picture)}
    assert not re.search(
        r"\b(?:graph|end|style|class)\[", picture
    )  # words of Mermaid: a box of that name draws nothing
    assert {"agent", "corpus", "harness", "record", "report", "services", "theory"} <= folders


def test_the_glossary_is_short_and_says_where_each_term_shows() -> None:
    """A word is worth a definition only if it stands in a metric, a file or an option; long lists are not read."""
    terms = re.findall(r"^\*\*(.+?)\*\* (.+)$", GLOSSARY.read_text(), re.MULTILINE)
    assert 0 < len(terms) <= MAX_TERMS
    assert [term for term, meaning in terms if "`" not in meaning] == []


def test_only_its_own_page_names_the_plan() -> None:
    """A reader of any other file has no plan at hand; `docs/plan.md` maps its commands to ours."""
    files = {*WRITTEN, *SOURCES, *TESTS} - {Path(__file__)}
    assert {path for path in files if PLAN.search(path.read_text())} == {ROOT / "docs" / "plan.md"}
    assert PLAN.search("A picture under the plan's name.")


def test_the_page_of_the_pressure_says_what_its_journal_says(tmp_path: Path) -> None:
    """The summary was written by the run, the page by hand: both are recomputed from the calls."""
    folder = ROOT / "docs" / "results" / "h200-pressure"
    (run,) = (folder / "runs").iterdir()
    journal = tmp_path / "journal.sqlite"
    journal.write_bytes(lzma.decompress((run / "journal.sqlite.xz").read_bytes()))
    measured = json.loads((run / "manifest.json").read_text())["measured"]
    data = read_run(journal, [Measured.from_manifest(row) for row in measured])
    summary = json.loads((run / "summary.json").read_text())["token_fates"]
    printed = [
        [cell.strip() for cell in line.split("|")]
        for line in (folder / "README.md").read_text().splitlines()
        if " % | " in line
    ]
    arms = dict.fromkeys(row["arm"] for row in data.calls)
    assert len(printed) == len(arms)
    for arm, cells in zip(arms, printed, strict=True):
        calls = data.calls_of(arm)
        fates = token_fates(calls)
        assert fates
        assert summary[arm]["tokens"] == fates["tokens"]
        prompt, hits = total(calls, "prompt_tokens"), total(calls, "cached_tokens")
        assert prompt == sum(fates["tokens"].values())
        shares = [hits, fates["tokens"]["evicted"], fates["tokens"]["unknown"]]
        assert [cells[3], cells[6], cells[7]] == [f"{part / prompt:.1%}".replace("%", " %") for part in shares]
