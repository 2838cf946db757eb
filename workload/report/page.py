"""One self-contained HTML page per run, or per suite: verdicts, figures, tables, the PromQL and the manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from workload.analysis.host import crowded
from workload.analysis.levels import load_in_words
from workload.analysis.token_fates import fates_in_words
from workload.analysis.waterfall import NOT_TOLD
from workload.analysis.wording import Bookkeeping, Caveat, number
from workload.report.pictures import picture_of
from workload.report.serving import SERVED, Table, tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workload.analysis.waterfall import Waterfall
    from workload.experiment import Study
    from workload.record.results import Finished

REPORT = "report.html"
RESULT = "Result"
RANDOM_WEIGHTS = "RANDOM WEIGHTS: tokens and times are real; the answers are noise, and so are EM and F1."
QUALITY = {
    "questions": "n",
    "answer_em": "answer EM",
    "answer_f1": "answer F1",
    "facts_em": "supporting-fact EM",
    "facts_f1": "supporting-fact F1",
    "joint_f1": "joint F1",
}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One run on the page."""

    name: str
    title: str
    origin: str
    marks: Sequence[str]
    conclusions: Mapping[str, Sequence[str]]
    figures: Sequence[dict[str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    accounting: Sequence[dict[str, Any]]
    host: Mapping[str, str]
    quality: Sequence[dict[str, str]]
    misses: Sequence[dict[str, Any]]
    promql: dict[str, list[str]]
    manifest: str
    serving: Sequence[Table] = ()
    slowest: Sequence[Waterfall] = ()


def section_of(experiment: Study[Any], finished: Finished) -> Section:
    """Return the section of a finished run, from its summary, its pictures and what lies in its bundle."""
    manifest = json.loads((finished.bundle / "manifest.json").read_text())
    promql = finished.bundle / "promql.json"
    return Section(
        name=experiment.name,
        title=experiment.title,
        origin=f"{experiment.name}, run {finished.run_id}",
        marks=marks_of(finished),
        conclusions=grouped(verdicts_of(experiment, finished.summary)),
        figures=[picture_of(path) for path in finished.files if path.suffix == ".png"],
        columns=experiment.columns,
        rows=experiment.headline(finished.summary),
        accounting=_accounting(finished.summary.get("accounting", ()), manifest.get("measured", ())),
        host=host_of(manifest),
        # a simulation's scores are the limit that retrieval sets, as its sentences say
        quality=() if finished.summary.get("is_simulated") else _quality(finished.summary.get("quality") or {}),
        misses=[
            {"arm": arm, **miss}
            for arm, found in (finished.summary.get("token_fates") or {}).items()
            for miss in found["dearest"]
        ],
        promql=json.loads(promql.read_text()) if promql.exists() else {},
        manifest=json.dumps(manifest, indent=2),
        serving=tables(finished.summary.get("serving") or ()),
        slowest=finished.summary.get("slowest") or (),
    )


def marks_of(finished: Finished) -> list[str]:
    """Return a sentence for each thing that is not real in a run; every text about its numbers begins with these."""
    path, summary = finished.bundle / "manifest.json", finished.summary
    manifest = json.loads(path.read_text()) if path.exists() else {}
    marks = [str(label)] if (label := manifest.get("label")) else []
    engines = [part["engine"] for part in manifest.get("measured", ())]
    if any(engine.get("has_random_weights") for engine in engines):
        marks.append(RANDOM_WEIGHTS)
    if origin := summary.get("replay_of"):
        marks.append(f"REPLAY of {origin}: the timing is real, the texts are recorded.")
    if summary.get("source") in {"simulated", "replayed"}:
        marks.append(f"{summary['origin']}. No engine ran, and no time was measured.")
    if any(load.get("backend") == "replay" for load in summary.get("loads", ())):
        marks.append("REPLAYED GPU trace: its memory and duty cycle are those of another run.")
    return marks


def verdicts_of(experiment: Study[Any], summary: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know about a run.

    That is whether nothing was answered, the experiment's own sentences, what became of the prompt tokens, and whether
    store and engine stayed the same.
    """
    sentences = [*experiment.verdicts(summary), *fates_in_words(summary.get("token_fates") or {})]
    quality = (summary.get("quality") or {}).values()
    if quality and not any(found["questions"] for found in quality):
        sentences = ["No question was answered, so there are no latencies, hops or cache hits to report.", *sentences]
    changes = (row.get("store_changed", "no") for row in summary.get("accounting", ()))
    if changed := [change for change in changes if change != "no"]:
        warning = (
            f"The store changed while it was searched ({'; '.join(changed)}): later questions found other documents."
        )
        sentences = [Caveat(warning), *sentences]
    if busy := crowded(summary.get("accounting", ())):
        sentences = [Caveat(f"{busy}: times and rates are too slow by an unknown amount."), *sentences]
    resets = [row["counter_resets"] for row in summary.get("accounting", ()) if row.get("counter_resets")]
    if not resets:
        return sentences
    times = sum(max(found.values()) for found in resets)
    warning = (
        f"The engine's counters were reset {times} time{'s' if times > 1 else ''} within {len(resets)} measured "
        f"window{'s' if len(resets) > 1 else ''}, so values that need their exact increase are missing there."
    )
    return [*sentences, Caveat(warning)]


def grouped(sentences: Sequence[str]) -> dict[str, list[str]]:
    """Return a run's conclusions by kind, in the order of reading; a kind without a sentence is left out."""
    groups: dict[str, list[str]] = {RESULT: [], "What limits it": [], "How it was counted": []}
    for sentence in sentences:
        limits, counted = isinstance(sentence, Caveat), isinstance(sentence, Bookkeeping)
        groups["What limits it" if limits else "How it was counted" if counted else RESULT].append(sentence)
    return {kind: found for kind, found in groups.items() if found}


def _accounting(rows: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what became of the questions, a row per window, each with its arm and load where the manifest has them."""
    windows = [part["window"] for part in measured] if len(measured) == len(rows) else [None] * len(rows)
    return [
        {
            **({"arm": window["arm"], "load": load_in_words(window["point"])} if window else {}),
            **{name: in_words(value) for name, value in row.items()},
        }
        for window, row in zip(windows, rows, strict=True)
    ]


def host_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return on what a run was measured, as far as its manifest knows."""
    engines = {f"vLLM {part['engine'].get('version')}": None for part in manifest.get("measured", ())}
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    facts = {**(manifest.get("host") or {}), "engine": ", ".join(engines), "versions": versions}
    return {name.replace("_", " "): str(value) for name, value in facts.items() if value not in ("", None)}


def render(title: str, sections: Sequence[Section]) -> str:
    """Return the page; it contains its pictures, loads nothing else and opens from disk."""
    environment = Environment(loader=PackageLoader("workload"), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(REPORT).render(not_told=NOT_TOLD, title=title, sections=sections, served=SERVED)


def _quality(by_arm: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {"arm": arm, **{title: number(found[name]) for name, title in QUALITY.items()}} for arm, found in by_arm.items()
    ]


def in_words(value: Any) -> str:
    """Return a value of the accounting; counts by reason as `reason: count`."""
    if isinstance(value, dict):
        return ", ".join(f"{reason}: {count}" for reason, count in value.items()) or "0"
    return str(value)
