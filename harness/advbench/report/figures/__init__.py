"""Figures for print, drawn with matplotlib."""

from __future__ import annotations

from advbench.report.figures.drawing import (
    FORMATS,
    Drawing,
    distinct,
    draw_charts,
    draw_confusions,
    draw_images,
    save,
)

__all__ = ["FORMATS", "Drawing", "distinct", "draw_charts", "draw_confusions", "draw_images", "save"]
