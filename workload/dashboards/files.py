"""The dashboards as files: `grafana/dashboards/<name>.json`."""

from __future__ import annotations

from pathlib import Path

from workload.dashboards import frame
from workload.dashboards.catalogue import DASHBOARDS

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"


def contents() -> dict[str, str]:
    """Return what the folder must hold: JSON by file name."""
    return {f"{dashboard.name}.json": frame.render(dashboard) for dashboard in DASHBOARDS}


def render(folder: Path = FOLDER) -> list[Path]:
    """Rewrite the dashboards in a folder, remove those that are no longer rendered, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = contents()
    for stray in {path.name for path in folder.glob("*.json")} - files.keys():
        (folder / stray).unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    return [folder / name for name in files]
