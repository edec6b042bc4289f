"""Charts for print."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import StrMethodFormatter

from advbench.report.charts import Chart, Line, Point
from advbench.report.figures.style import COLOURS, HALF, LINES, MARKERS, SETTINGS, new_figure, shortened

__all__ = ["draw_chart"]

_MOST_BANDS = 4
"""With more lines, confidence bands would overlap too much and are omitted."""

_LONGEST = 46
"""Largest number of characters in a line of a label in the legend."""

_LABEL_SPACE = 180.0
"""Width available for the labels of a legend with two columns, in points, without the markers."""

_RANGE = (-5.0, 106.0)
"""The vertical range of a scatter chart, in percent."""

_TICK_ERROR = 1e-6
"""More than the rounding error of a tick: matplotlib's tick for 100 may be slightly larger."""

_NAME_SIZE, _NAME_LINE = 6.0, 0.105
"""The names beside a scatter chart: size of the letters in points, and height of a line in inches."""


def draw_chart(chart: Chart) -> Figure:
    """Draws a chart with the width of a column of text."""
    scattered = chart.kind == "scatter"
    labels = [] if scattered else [_wrapped(line.name) for line in chart.lines]
    columns = _columns(labels)
    below = 0.0 if scattered else 0.13 * _height(labels, columns) + 0.1
    title = "\n".join([*textwrap.wrap(chart.title, 52)[:3], f"{chart.dataset}, {chart.model}"])
    height = 2.4 + below
    if scattered:
        around = 0.56 + 0.13 * (title.count("\n") + 1)  # title, ticks and label of the horizontal axis, in inches
        height = max(height, around + _NAME_LINE * (len(chart.lines[0].points) + 1))
    figure = new_figure(HALF, height)
    axis = figure.subplots()
    if scattered:
        _scatter(axis, chart.lines[0].points, _NAME_LINE / (height - around) * (_RANGE[1] - _RANGE[0]))
    else:
        end = max(point.x for line in chart.lines for point in line.points) if chart.steps else None
        bands = sum(any(point.low is not None for point in line.points) for line in chart.lines)
        for index, (line, label) in enumerate(zip(chart.lines, labels, strict=True)):
            _line(axis, line, index, label, end=end, band=bands <= _MOST_BANDS)
        figure.legend(loc="outside lower center", ncols=columns, columnspacing=1.2, handlelength=2.4)
        axis.set_ylim(-2, 102)
    if chart.kind == "eps":
        axis.set_xlim(left=0)
    if chart.logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    unit = " (%)" if scattered else ""
    axis.set_xlabel(chart.x_label + unit)
    axis.set_ylabel(f"{chart.y_label} (%)")
    figure.suptitle(title, fontsize=7.5)
    axis.grid(axis="y", color="#dddddd", linewidth=0.5)
    axis.set_axisbelow(True)
    return figure


def _wrapped(name: str) -> str:
    """Wraps a name for the legend after commas, plus signs and blanks."""
    lines = [""]
    for piece in re.findall(r"[^,+ ]+[,+ ]*|[,+ ]+", name):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > _LONGEST:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part for line in lines for part in textwrap.wrap(line, _LONGEST))


def _columns(labels: Sequence[str]) -> int:
    """The number of columns of the legend: two if they fit into the figure."""
    rows = -(-len(labels) // 2)
    widths = [max(map(_width, column), default=0.0) for column in (labels[:rows], labels[rows:])]
    return 2 if len(labels) > 1 and sum(widths) < _LABEL_SPACE else 1


def _width(label: str) -> float:
    """The width of a label in points."""
    size = SETTINGS["legend.fontsize"]
    return max(float(TextPath((0, 0), line, size=size).get_extents().width) for line in label.split("\n"))


def _height(labels: Sequence[str], columns: int) -> int:
    """The height of the legend, in lines of text."""
    rows = -(-len(labels) // columns)
    lines = [label.count("\n") + 1 for label in labels]
    return max(sum(lines[:rows]), sum(lines[rows:])) if columns == 2 else sum(lines)


def _line(axis: Axes, line: Line, index: int, label: str, *, end: float | None, band: bool) -> None:
    """Draws a line; with ``end``, as a step function that keeps its last value up to there."""
    across = [point.x for point in line.points]
    heights = [100 * point.y for point in line.points]
    colour, kind = COLOURS[index % len(COLOURS)], LINES[index // len(COLOURS) % len(LINES)]
    if end is not None:
        kind = LINES[index % len(LINES)]
        axis.plot(
            [*across, end], [*heights, heights[-1]], drawstyle="steps-post", color=colour, linestyle=kind, label=label
        )
        return
    axis.plot(across, heights, color=colour, linestyle=kind, marker=MARKERS[index % len(MARKERS)], label=label)
    known = [(p.x, 100 * p.low, 100 * p.high) for p in line.points if p.low is not None and p.high is not None]
    if band and len(known) > 1:
        x, low, high = zip(*known, strict=True)
        axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def _scatter(axis: Axes, points: Sequence[Point], gap: float) -> None:
    """Draws one named point per defense; points on the Pareto front are filled and connected.

    Args:
        axis: The axes.
        points: The points.
        gap: The height of a line of text, in percent of accuracy.
    """
    for point in points:
        if point.low is not None and point.high is not None:
            axis.plot([100 * point.x] * 2, [100 * point.low, 100 * point.high], color="#888888", linewidth=0.8)
        face = COLOURS[0] if point.best else "white"
        axis.plot(100 * point.x, 100 * point.y, "o", markerfacecolor=face, markeredgecolor=COLOURS[0], markersize=4.5)
    front = sorted((100 * point.x, 100 * point.y) for point in points if point.best)
    axis.plot([x for x, _ in front], [y for _, y in front], color=COLOURS[0], linewidth=0.8, linestyle=":")
    left = min(100 * point.x for point in points)
    span = max(1.0, 101 - left)
    axis.set_xlim(left - 1.1 * span, 100 + 0.05 * span)
    axis.set_xticks([tick for tick in axis.get_xticks() if left - 0.1 * span <= tick <= 100 + _TICK_ERROR])
    low, high = _RANGE
    axis.set_ylim(low, high)
    named = sorted(points, key=_from_above)
    heights = _spread([100 * point.y for point in named], gap, low + gap / 2, high - gap / 2)
    for point, height in zip(named, heights, strict=True):
        axis.annotate(
            shortened(point.name, 28), (100 * point.x, 100 * point.y), (left - 0.08 * span, height),
            ha="right", va="center", fontsize=_NAME_SIZE,
            arrowprops={
                "arrowstyle": "-", "color": "#999999", "linewidth": 0.4, "shrinkA": 1, "shrinkB": 2.5,
                "relpos": (1.0, 0.5),
            },
        )  # fmt: skip


def _from_above(point: Point) -> tuple[float, float]:
    """Sort key of the names beside a scatter chart, so that the lines to points of one height do not cross."""
    return -point.y, point.x if point.y > 0.5 else -point.x


def _spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves descending heights apart by at least ``gap``, as little as possible from their order, within a range."""
    spread: list[float] = []
    for index, height in enumerate(heights):
        most = high if not spread else spread[-1] - gap
        spread.append(min(most, max(height, low + gap * (len(heights) - 1 - index))))
    return spread
