"""The runs of a results folder, and one of them opened for its rows alone: no Prometheus, no experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workload.errors import UsageError
from workload.files.enclosed import run_folder
from workload.record.bundle import MANIFEST, read_manifest
from workload.record.manifest import manifest_in, readable
from workload.record.results import RunData, read_run
from workload.settings import MEASURED

if TYPE_CHECKING:
    from pathlib import Path

FACTS = ("version", "model", "block_size", "num_gpu_blocks", "has_random_weights")
"""Of an engine: what two runs must share for their times to be of the same system."""


@dataclass(frozen=True, kw_only=True)
class RunLine:
    """A run in a list; `questions` were sent in its measured windows."""

    run: str
    experiment: str
    status: str
    started: str
    questions: int
    model: str


@dataclass(frozen=True)
class RecordedRun:
    """The rows of a run, and what it was: its settings and its engines by name of the fact."""

    run: str
    data: RunData
    facts: dict[str, Any]
    replay_of: str | None


def list_runs(results: Path) -> list[RunLine]:
    """Return the runs of a results folder, oldest first; one whose files cannot be read says so as its status."""
    folder = results / "runs"
    names = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
    return [_line(results, name) for name in names]


def _line(results: Path, run: str) -> RunLine:
    try:
        folder = run_folder(results, run)
        manifest, started = manifest_in(folder), str(read_manifest(folder).get("started", ""))
    except UsageError:
        status = "damaged, or of another release"
        return RunLine(run=run, experiment="", status=status, started="", questions=0, model="")
    sent = sum(part.accounting.sent for part in manifest.measured)
    models = dict.fromkeys(part.engine.model or "" for part in manifest.measured)
    return RunLine(
        run=run,
        experiment=manifest.experiment,
        status=manifest.status,
        started=started,
        questions=sent,
        model=", ".join(models),
    )


def open_recorded(results: Path, run: str) -> RecordedRun:
    """Return a run's rows.

    Raises:
        UsageError: no run has this name, it has no measured window yet, or its files are damaged.
    """
    folder = run_folder(results, run)
    manifest = manifest_in(folder)
    if not manifest.measured:
        raise UsageError(f"{run} has no measured window yet: it is {manifest.status}.", "Choose another run.")
    with readable(run):
        settings = manifest.known_settings
        data = read_run(folder / "journal.sqlite", manifest.past_windows)
    engines = [part.engine.model_dump() for part in manifest.measured]
    facts = {f"engine {name}": _one([engine.get(name) for engine in engines]) for name in FACTS}
    facts |= settings.flat(*MEASURED) | {"corpus": read_manifest(folder).get("corpus")}
    return RecordedRun(run, data, facts, replay_of=settings.load.replay)


def _one(values: list[Any]) -> Any:
    """Return the value that all windows share, or the list of the different ones."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else different
