"""Charts drawn for print."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from advbench.report.curves import Chart, Line
from advbench.report.figures.style import COLOURS, HALF, LINES, MARKERS, new_figure, shortened

__all__ = ["draw_chart"]

_MOST_BANDS = 6
"""Bands of more lines than so many hide each other."""


def draw_chart(chart: Chart) -> Figure:
    """A chart as wide as a column of text."""
    scattered = chart.kind == "scatter"
    below = 0.0 if scattered else 0.13 * -(-len(chart.lines) // 2) + 0.1
    figure = new_figure(HALF, 2.4 + below)
    axis = figure.subplots()
    if scattered:
        _scatter(axis, chart.lines[0])
    else:
        end = max(point.x for line in chart.lines for point in line.points) if chart.steps else None
        for at, line in enumerate(chart.lines):
            _line(axis, line, at, end=end, band=len(chart.lines) <= _MOST_BANDS)
        figure.legend(loc="outside lower center", ncols=2, columnspacing=1.2, handlelength=2.4)
        axis.set_ylim(-2, 102)
    if chart.kind == "eps":
        axis.set_xlim(left=0)
    unit = " (%)" if scattered else ""
    axis.set_xlabel(chart.x_label + unit)
    axis.set_ylabel(f"{chart.y_label} (%)")
    title = "\n".join([*textwrap.wrap(chart.title, 52)[:3], f"{chart.dataset}, {chart.model}"])
    figure.suptitle(title, fontsize=7.5)
    axis.grid(axis="y", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    return figure


def _line(axis: Axes, line: Line, at: int, *, end: float | None, band: bool) -> None:
    """A line; one that has an end is a step function, which holds its last value until there."""
    across = [point.x for point in line.points]
    heights = [100 * point.y for point in line.points]
    colour, kind = COLOURS[at % len(COLOURS)], LINES[at // len(COLOURS) % len(LINES)]
    label = shortened(line.name, 30)
    if end is not None:
        kind = LINES[at % len(LINES)]
        axis.plot(
            [*across, end], [*heights, heights[-1]], drawstyle="steps-post", color=colour, linestyle=kind, label=label
        )
        return
    axis.plot(across, heights, color=colour, linestyle=kind, marker=MARKERS[at % len(MARKERS)], label=label)
    known = [(p.x, 100 * p.low, 100 * p.high) for p in line.points if p.low is not None and p.high is not None]
    if band and len(known) > 1:
        places, low, high = zip(*known, strict=True)
        axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)


def _scatter(axis: Axes, line: Line) -> None:
    """A point a defense, filled on the Pareto front, which a line joins; names beside the points."""
    for point in line.points:
        if point.low is not None and point.high is not None:
            axis.plot([100 * point.x] * 2, [100 * point.low, 100 * point.high], color="#888888", linewidth=0.8)
        face = COLOURS[0] if point.best else "white"
        axis.plot(100 * point.x, 100 * point.y, "o", markerfacecolor=face, markeredgecolor=COLOURS[0], markersize=4.5)
    front = sorted((100 * point.x, 100 * point.y) for point in line.points if point.best)
    axis.plot([x for x, _ in front], [y for _, y in front], color=COLOURS[0], linewidth=0.8, linestyle=":")
    left = min(100 * point.x for point in line.points)
    span = max(1.0, 101 - left)
    axis.set_xlim(left - 1.1 * span, 100 + 0.05 * span)
    axis.set_xticks([tick for tick in axis.get_xticks() if left - 0.5 * span <= tick <= 100])
    axis.set_ylim(-9, 106)
    used: list[float] = []
    for point in sorted(line.points, key=lambda point: -point.y):
        height = 100 * point.y
        while any(abs(height - other) < 4.6 for other in used):
            height -= 0.5
        used.append(height)
        axis.annotate(
            shortened(point.name, 28), (100 * point.x, 100 * point.y), (left - 0.08 * span, height),
            ha="right", va="center", fontsize=6,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.4, "shrinkA": 1, "shrinkB": 2.5},
        )  # fmt: skip
