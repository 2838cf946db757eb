"""Pictures of growing contexts: their time, their memory, and how they accumulate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workload.analysis.context import GrowthFit, Points, decode_points, fit_band, prefill_points
from workload.analysis.latency import accumulated
from workload.analysis.wording import number, percent
from workload.charts.canvas import DARK, GREY, MARKERS, duration, legend, name, save, sheet
from workload.panels.colours import COLOURS, NODE_COLOURS
from workload.panels.context_growth import ALL
from workload.record.results import group
from workload.statistics.growth import fit_growth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from workload.analysis.summaries import ContextGrowthSummary
    from workload.charts.drawing import Drawing

MIB, GIB = 2**20, 2**30
MILLISECONDS = 1000
HEADROOM = 1.2
CALLS = ("the agent's own calls", "the sweep's calls")


def draw(drawing: Drawing[ContextGrowthSummary]) -> list[Path]:
    """Draw latency, memory and tokens against the context, and keep the data of every panel."""
    for panel in ALL:
        drawing.traces(panel)
    return [draw_latency(drawing), draw_memory(drawing), draw_tokens(drawing)]


def draw_latency(drawing: Drawing[ContextGrowthSummary]) -> Path:
    """Draw prefill against uncached tokens and decode against context, each with its fit."""
    swept = drawing.arms[1]
    fit, decode = drawing.summary["prefill"][swept], drawing.summary["decode"][swept]
    title = "How does time grow with the context?"
    if fit.get("quadratic_share") is not None:
        word = "faster than" if fit["is_superlinear"] else "no faster than"
        title = f"Prefill grows {word} the context: n² adds {percent(fit['quadratic_share'])} at {_longest(fit)} tokens"
    canvas, (upper, lower) = sheet(title, drawing.footer, (3.4, 2.8), share_x=False)
    for axes, points_of, scale in ((upper, prefill_points, 1), (lower, decode_points, MILLISECONDS)):
        for place, arm in enumerate(drawing.arms):
            tokens, seconds = points_of(drawing.data.calls_of(arm))
            _points(axes, place, (tokens, seconds * scale))
        tokens, seconds = points_of(drawing.data.calls_of(swept))
        _fit(axes, (tokens, seconds * scale))
    if expected := fit.get("expected_quadratic_share"):
        calls = drawing.data.calls_of(swept)
        _expected(upper, prefill_points(calls), expected / fit["tokens"][1])
    for axes in (upper, lower):
        axes.set_xlim(left=0)
        axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
        legend(axes, columns=2)
    name(upper, f"Prefill{_certainty(fit)}", x="uncached prompt tokens", y="seconds to the first token")
    name(lower, f"Decode{_ends(decode)}", x="tokens of context, including the reply", y="ms per generated token")
    return save(canvas, drawing.folder / "context_vs_latency.png")


def _certainty(fit: GrowthFit) -> str:
    if fit.get("quadratic_share_ci") is None:
        return f": {fit['calls']} calls are too few for a fit"
    low, high = (percent(bound) if bound is not None else "no bound" for bound in fit["quadratic_share_ci"])
    expected = fit["expected_quadratic_share"]
    known = f"; the config predicts {percent(expected)}" if expected else ""
    share = percent(fit["quadratic_share"]) if fit["quadratic_share"] is not None else "all"
    return f": n² is {share} [{low}, {high}] of n{known}; band: 95 %"


def _ends(fit: GrowthFit) -> str:
    if "unknown" in fit:
        return f": {fit['calls']} calls are too few for a fit"
    pairs = zip(fit["seconds"], fit["tokens"], strict=True)
    ends = " to ".join(f"{duration(seconds)} at {number(tokens)}" for seconds, tokens in pairs)
    return f": {fit['shape']}, {ends} tokens; band: 95 %"


def _points(axes: Axes, place: int, points: Points) -> None:
    label = f"{CALLS[place]}, n={len(points[0])}"
    marker, colour = MARKERS[place], COLOURS[place]
    axes.plot(*points, marker, color=colour, markersize=4.5, alpha=0.6, markeredgewidth=0, label=label)


def _fit(axes: Axes, points: Points) -> None:
    """Draw the shape that the calls support with its band, and say which it is."""
    try:
        chosen = fit_growth(*points).chosen
    except ValueError:
        return
    tokens = np.linspace(points[0].min(), points[0].max(), 200)
    axes.fill_between(tokens, *fit_band(points, chosen, tokens), color=GREY, alpha=0.2, linewidth=0)
    axes.plot(tokens, chosen.seconds(tokens), color=DARK, linewidth=1.4, label=f"fit of the sweep: {chosen.shape}")


def _expected(axes: Axes, points: Points, share_a_token: float) -> None:
    """Draw the curvature that the model's config expects: seconds = a + b (n + share n²), with a and b fitted."""
    tokens, seconds = points
    work = tokens + share_a_token * tokens**2
    slope, intercept = np.polyfit(work, seconds, 1)
    n = np.linspace(tokens.min(), tokens.max(), 200)
    curve = intercept + slope * (n + share_a_token * n**2)
    axes.plot(n, curve, color=GREY, linewidth=1.2, linestyle="--", label="shape of the config's FLOPs")


def draw_memory(drawing: Drawing[ContextGrowthSummary]) -> Path:
    """Draw the KV cache in use and the memory of the device, or of the engine's processes, against the context."""
    kv, swept = drawing.summary["kv"], drawing.arms[1]
    title = "How much memory does a context take?"
    if kv["slope_bytes_per_token"]:
        title = f"A token of context takes {number(kv['slope_bytes_per_token'])} bytes of KV cache"
    if kv["is_within"]:
        title += ", as the model's config predicts"
    elif not kv["pool_is_told"]:
        title += ", with the config's bytes per block"
    canvas, (upper, lower) = sheet(title, drawing.footer, (3.2, 2.2))
    block_bytes = next((part.engine["kv_block_bytes"] for part in drawing.data.measured), 0) or 0
    for place, arm in enumerate(drawing.arms):
        seen = [row for row in drawing.summary["footprints"][arm] if row["blocks"] is not None and block_bytes]
        used = [(row["tokens"], blocks * block_bytes / MIB) for row in seen if (blocks := row["blocks"]) is not None]
        memory = [(row["tokens"], peak / GIB) for row in seen if (peak := row["memory_bytes"]) is not None]
        for axes, points in ((upper, used), (lower, memory)):
            tokens, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
            _points(axes, place, (tokens, values))
    if kv["expected_bytes_per_token"] and drawing.summary["footprints"][swept]:
        longest = max(row["tokens"] or 0 for row in drawing.summary["footprints"][swept])
        line = np.array([0, longest])
        label = f"config: {number(kv['expected_bytes_per_token'])} bytes per token"
        upper.plot(
            line, line * kv["expected_bytes_per_token"] / MIB, color=GREY, linestyle="--", linewidth=1, label=label
        )
    legend(upper)
    for axes in (upper, lower):
        axes.set_xlim(left=0)
        axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
    kind = "Device memory in use" if drawing.summary["device"] else "NO GPU: resident memory of the engine's processes"
    ci = f" [{number(kv['slope_ci'][0])}, {number(kv['slope_ci'][1])}]" if kv["slope_ci"] else ""
    name(upper, f"KV pool in use while a call decodes; slope with 95 % interval{ci} bytes per token", y="MiB")
    name(lower, f"{kind}, peak while a call runs", x="tokens of context, including the reply", y="GiB")
    return save(canvas, drawing.folder / "context_vs_memory.png")


def draw_tokens(drawing: Drawing[ContextGrowthSummary]) -> Path:
    """Draw the prompts' length by hop and node, and the tokens that a question has used by each hop."""
    agent = drawing.arms[0]
    by_hop, sums = drawing.summary["context_by_hop"], accumulated(drawing.data.calls_of(agent))
    whole = drawing.summary["tokens_a_question"]
    title = "How do tokens accumulate over the hops?"
    if whole:
        title = f"The median question uses {number(whole['median'])} tokens (n={whole['n']})"
    canvas, (upper, lower) = sheet(title, drawing.footer, (3.2, 2.8))
    rows = [call for call in drawing.data.calls_of(agent) if call["prompt_tokens"] is not None]
    random = np.random.default_rng(0)
    for place, (node, found) in enumerate(by_hop.items()):
        colour, shift = NODE_COLOURS.get(node, GREY), (place - (len(by_hop) - 1) / 2) * 0.14
        for hop, calls in group((call for call in rows if call["node"] == node), "hop").items():
            at = hop + shift + random.uniform(-0.03, 0.03, len(calls))
            tokens = [call["prompt_tokens"] for call in calls]
            upper.plot(at, tokens, "o", color=colour, markersize=3, alpha=0.35, markeredgewidth=0)
        hops, medians = [row["hop"] + shift for row in found], [row["median"] for row in found]
        upper.plot(hops, medians, color=colour, marker=MARKERS[place % len(MARKERS)], label=node, linewidth=1.4)
    legend(upper, columns=4)
    for rows_ in sums.values():
        lower.plot(*zip(*rows_, strict=True), color=COLOURS[0], alpha=0.35, linewidth=0.9, marker=".")
    _median(lower, list(sums.values()))
    lower.set_xticks(sorted({hop for rows_ in sums.values() for hop, _ in rows_}))
    for axes in (upper, lower):
        axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
    name(upper, "Prompt length by hop: every call, and the median of each node", y="tokens")
    name(
        lower,
        "Prompt and reply tokens of a question so far; bold: median of the questions that reached the hop",
        x="hop",
        y="tokens",
    )
    return save(canvas, drawing.folder / "token_accumulation.png")


def _median(axes: Axes, rows: Sequence[Sequence[tuple[int, int]]]) -> None:
    by_hop: dict[int, list[int]] = {}
    for row in rows:
        for hop, tokens in row:
            by_hop.setdefault(hop, []).append(tokens)
    hops = sorted(by_hop)
    axes.plot(hops, [float(np.median(by_hop[hop])) for hop in hops], color=DARK, linewidth=2)
    for hop in hops:
        note = f"n={len(by_hop[hop])}"
        axes.annotate(note, (hop, 0), (0, 3), textcoords="offset points", ha="center", fontsize=7, color=DARK)


def _longest(fit: GrowthFit) -> str:
    return number(fit["tokens"][1])
