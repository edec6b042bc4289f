"""Figures for print, drawn with matplotlib."""

from __future__ import annotations

from advbench.report.figures.drawing import (
    Drawing,
    distinct,
    draw_charts,
    draw_confusions,
    draw_images,
    save,
)
from advbench.report.figures.selection import MOST, Ranking, cells_with_images, dozen

__all__ = [
    "MOST",
    "Drawing",
    "Ranking",
    "cells_with_images",
    "distinct",
    "dozen",
    "draw_charts",
    "draw_confusions",
    "draw_images",
    "save",
]
