"""What all figures have in common: sizes, letters, colours that the colour-blind tell apart."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

__all__ = ["COLOURS", "FULL", "HALF", "LINES", "MARKERS", "RIGHT", "SETTINGS", "WRONG", "new_figure", "shortened"]

HALF, FULL = 3.35, 6.9
"""Widths of a column and of a page, in inches."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#000000", "#B0413E")
"""Those of Okabe and Ito, Color Universal Design, the yellow darker and one red more."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")

RIGHT, WRONG = "#00664A", "#B33A00"
"""Colours of right and wrong predictions, which a sign tells apart as well."""

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
    """An empty figure of this size in inches, which lays itself out."""
    return Figure(figsize=(width, height), layout="constrained")


def shortened(text: str, most: int = 34) -> str:
    """Text in one line, its end left out where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
