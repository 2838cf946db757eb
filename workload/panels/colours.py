"""The colours of dashboards and figures: an arm has one, wherever it is drawn."""

from __future__ import annotations

# Okabe and Ito's palette, without black and yellow: distinguishable for colour-blind readers, and by lightness in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7")
# The nodes that take time; the others only pass on what these have found.
BUSY_NODES = ("decompose", "retrieve", "extract_clues", "generate", "grade", "decide")
NODE_COLOURS = dict(zip(BUSY_NODES, COLOURS, strict=True))
# In a figure the first arm of a run has the first colour; these are the arms that come first and second.
ARM_COLOURS = {
    "base": COLOURS[0],
    "prefix-off": COLOURS[0],
    "prefix-on": COLOURS[1],
    "low": COLOURS[2],
    "high": COLOURS[4],
}
