"""Draws which calls share prefixes: a picture of structure, not a sum of reuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from workload.charts.canvas import PALE, save
from workload.charts.time_series import WIDTH_INCHES, write_footer
from workload.kv_cache.chart_kv_cache import cells_of, divide_hops, footer, label_of, mark, share_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def draw_heatmap(summary: dict[str, Any], path: Path) -> Path:
    """Draw the mean shared-prefix share of call pairs, one column per arm; pairs must not be added up."""
    arms = summary["arms"]
    cells = cells_of(cell for found in arms.values() for cell in found["shared_prefixes"]["cells"])
    side = min(3.5, 5.4 / len(arms))
    canvas = Figure(figsize=(WIDTH_INCHES, 2.6 + 2 * side), layout="constrained")
    title = "How much of a prompt begins like that of an earlier call?"
    canvas.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    panels = canvas.subplots(2, len(arms), sharex=True, sharey=True, squeeze=False)
    labels = [label_of(cell) for cell in cells]
    for column, (arm, found) in enumerate(arms.items()):
        panels[0, column].set_title(f"{arm}\n{share_of(summary, arm)} reusable", loc="left", fontsize=10)
        for axes, kind in zip(panels[:, column], ("within_request", "across_requests"), strict=True):
            shares = _matrix(found["shared_prefixes"], kind, cells)
            image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
            axes.set_xticks(range(len(cells)), labels, rotation=90, fontsize=7)
            axes.set_yticks(range(len(cells)), labels, fontsize=7)
            axes.set_facecolor(PALE)
            axes.spines[:].set_visible(False)
            divide_hops(axes, cells)
    for axes, text in zip(panels[:, 0], ("one question", "two questions"), strict=True):
        axes.set_ylabel(f"calls of {text}\nearlier call", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("later call", fontsize=9)
    bar = canvas.colorbar(image, ax=panels, shrink=0.6, format=PercentFormatter(1.0), pad=0.02)
    bar.set_label("common prefix, share of the later prompt", fontsize=8)
    pictured = max(found["shared_prefixes"]["calls"] for found in arms.values())
    note = f"Mean over all pairs of {pictured} calls per arm; grey: no such pair. Pairs must not be added up."
    write_footer(canvas, f"{note}\n{footer(summary)}")
    mark(panels[0, -1], summary)
    return save(canvas, path)


def _matrix(shared: dict[str, Any], kind: str, cells: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
    """Return the shares in the order of `cells`; NaN without a pair."""
    place = {cell: position for position, cell in enumerate(cells)}
    at = [place[cell["hop"], cell["node"]] for cell in shared["cells"]]
    matrix = np.full((len(cells), len(cells)), np.nan)
    matrix[np.ix_(at, at)] = np.array(shared[kind]["share"], dtype=np.float64)
    return matrix
