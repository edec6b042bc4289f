"""The style of all figures: sizes, fonts, and colours that colour-blind readers can distinguish."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from advbench.printable import one_line

__all__ = ["COLOURS", "CORRECT", "FULL", "HALF", "LINES", "MARKERS", "SETTINGS", "WRONG", "new_figure", "shortened"]

HALF, FULL = 3.35, 6.9
"""Widths of a column and of a page, in inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#000000", "#B0413E")
"""The colours of Okabe and Ito, Color Universal Design, with a darker yellow and an additional red."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")

CORRECT, WRONG = "#00664A", "#B33A00"
"""Colours of correct and wrong predictions, which also have different symbols."""

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titley": 1.0,
    "axes.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "advbench",
    "text.parse_math": False,
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "savefig.dpi": 300,
    "figure.dpi": 100,
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with constrained layout."""
    return Figure(figsize=(width, height), layout="constrained")


def shortened(text: str, most: int = 34) -> str:
    """Text on one line, truncated if it is long."""
    text = one_line(text)
    return text if len(text) <= most else text[: most - 1] + "…"
