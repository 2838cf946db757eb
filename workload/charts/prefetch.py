"""The panel of what speculative prefetch could save."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workload.analysis.wording import speedup
from workload.charts.canvas import DARK, GREY, name
from workload.charts.time_series import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_prefetch(axes: Axes, told: dict[str, Any]) -> None:
    """Draw for each source of drafts its ceiling, and the bound with its interval where P was measured."""
    prefetch = told["prefetch"]
    sources = prefetch["sources"]
    for place, row in enumerate(sources.values()):
        axes.plot(row["ceiling_seconds"], place, "o", color=GREY, markerfacecolor="white", markersize=6)
        if bound := row["bound"]:
            ends = [bound["low"]["seconds"], bound["high"]["seconds"]]
            axes.plot(ends, [place, place], color=COLOURS[0], linewidth=4, alpha=0.5, solid_capstyle="butt")
            axes.plot(bound["measured"]["seconds"], place, "D", color=DARK, markersize=5)
            accuracy = row["accuracy"]
            note = f"P = {accuracy['right']} of {accuracy['hops']}, {speedup(bound['measured']['speedup'])}"
        else:
            note = "P " + str(row["accuracy"]).partition(":")[0]
        axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.axvline(0, color=DARK, linewidth=0.8)
    axes.set_yticks(range(len(sources)), [f"draft: {source}" for source in sources], fontsize=8)
    axes.set_ylim(len(sources) - 0.4, -0.6)
    name(
        axes,
        "Prefetch: hollow if every draft were right, filled with P as measured",
        x="seconds saved over the load, with the 95 % interval of P (left of 0: lost)",
    )
