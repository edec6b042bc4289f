"""Charts as SVG in the page, in the colours of its stylesheet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from advbench.report.board import percent
from advbench.report.charts import Chart, Line, Point
from advbench.report.page.escaping import escape
from advbench.report.page.text import breakable

__all__ = ["chart_figure"]

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 12, 44
SHAPES = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
    "M-3.6 -3.6H3.6V3.6H-3.6Z",
    "M0 -4.8L4.6 3.4H-4.6Z",
    "M0 -5L4.4 0L0 5L-4.4 0Z",
    "M0 4.8L4.6 -3.4H-4.6Z",
    "M-4 -1.3H-1.3V-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4Z",
)
COLOURS = 8
MOST_BANDS = 4
"""With more lines, the band of a line is shown only while somebody points at it."""


def chart_figure(chart: Chart) -> str:
    """A chart with caption and legend; points show their numbers as tooltips."""
    scale = _Scale(chart)
    scattered = chart.kind == "scatter"
    bands = sum(_has_band(line) for line in chart.lines)
    drawn = "".join(
        _scatter(line, scale) if scattered else _line(line, number, scale, chart.steps)
        for number, line in enumerate(chart.lines)
    )
    legend = "" if scattered else _legend(chart.lines)
    hidden = not scattered and bands > MOST_BANDS
    notes = [chart.note, "Point at a line or its name for its 95 % interval." if hidden else ""]
    note = "".join(f'<p class="note">{escape(text)}</p>' for text in notes if text)
    title = f"{chart.title} · {chart.dataset} · {chart.model}"
    kind = ' class="few"' if hidden else ""
    where = f"<small>{escape(chart.dataset)} · {escape(chart.model)}</small>"
    return (
        f'<figure{kind} data-dataset="{escape(chart.dataset)}" data-model="{escape(chart.model)}">'
        f"<figcaption>{breakable(escape(chart.title))}{where}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{_axes(chart, scale)}{drawn}</svg>{legend}{note}</figure>"
    )


class _Scale:
    """Converts values to coordinates of the drawing: accuracies from 0 to 1, horizontal values in their range."""

    def __init__(self, chart: Chart) -> None:
        values = [point.x for line in chart.lines for point in line.points]
        self.low, self.high = min(values), max(values)
        if chart.kind == "scatter":
            self.low, self.high = max(0.0, math.floor(10 * self.low - 0.5) / 10), 1.0
        elif chart.kind == "eps":
            self.low = 0.0
        elif chart.logarithmic:
            self.high = max(self.high, 10 * self.low)
        else:
            margin = 0.04 * (self.high - self.low)
            self.low, self.high = self.low - margin, self.high + margin
        self.logarithmic = chart.logarithmic
        self.ticks = powers_of_ten(self.low, self.high) if chart.logarithmic else nice_ticks(self.low, self.high)

    def x(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return LEFT + (value - low) / (high - low or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, share: float) -> float:
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within a range, at most ``most`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round((first + index) * step, 12) for index in range(math.floor((high - first * step) / step + 1e-9) + 1)]


def powers_of_ten(low: float, high: float) -> list[float]:
    """The powers of ten within a range that begins at 1 or more."""
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    return [10.0**exponent for exponent in exponents]


def _axes(chart: Chart, scale: _Scale) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        y = scale.y(share)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>')
    for tick in scale.ticks:
        x = scale.x(tick)
        label = f"{100 * tick:.0f}" if chart.kind == "scatter" else f"{tick:,.0f}" if chart.logarithmic else f"{tick:g}"
        parts.append(f'<path class="tick" d="M{x:.1f} {bottom}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>')
    unit = " %" if chart.kind == "scatter" else ""
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    middle, across = (LEFT + right) / 2, escape(chart.x_label) + unit
    parts.append(f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{across}</text>')
    parts.append(
        f'<text class="label" transform="translate(13 {(TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(chart.y_label)} %</text>"
    )
    return "".join(parts)


def _line(line: Line, number: int, scale: _Scale, steps: bool) -> str:
    points = [(scale.x(point.x), scale.y(point.y)) for point in line.points]
    kind = f"line s{number % COLOURS} d{number // COLOURS}"
    if steps:
        # After the last step, the value stays the same up to the edge.
        steps_down = "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
        path = f"M{points[0][0]:.1f} {points[0][1]:.1f}{steps_down}H{WIDTH - RIGHT}"
        title = f"<title>{escape(line.name)}</title>"
        return f'<g class="series"><path class="{kind}" d="{path}">{title}</path></g>'
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    marks = "".join(_mark(point, line.name, number, scale) for point in line.points)
    band = _band(line.points, number, scale)
    return f'<g class="series"><path class="near" d="{path}"/>{band}<path class="{kind}" d="{path}"/>{marks}</g>'


def _has_band(line: Line) -> bool:
    return sum(point.low is not None and point.high is not None for point in line.points) > 1


def _band(points: Sequence[Point], number: int, scale: _Scale) -> str:
    known = [
        (scale.x(p.x), scale.y(p.low), scale.y(p.high)) for p in points if p.low is not None and p.high is not None
    ]
    if len(known) < 2:
        return ""
    upper = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in known)
    lower = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(known))
    return f'<path class="band s{number % COLOURS}" d="M{upper}L{lower}Z"/>'


def _mark(point: Point, name: str, number: int, scale: _Scale) -> str:
    shape = SHAPES[number % len(SHAPES)]
    position = f"translate({scale.x(point.x):.1f} {scale.y(point.y):.1f})"
    title = f"<title>{_tooltip(point, name)}</title>"
    return f'<path class="mark s{number % COLOURS}" transform="{position}" d="{shape}">{title}</path>'


def _tooltip(point: Point, name: str) -> str:
    interval = "" if point.low is None or point.high is None else f" ({percent(point.low)}–{percent(point.high)})"
    return escape(f"{name} at {point.x:g}: {percent(point.y)} %{interval}")


def _scatter(line: Line, scale: _Scale) -> str:
    """The points of a scatter chart, with names placed so that they do not overlap."""
    parts = []
    occupied: list[tuple[float, float, float, float]] = []
    for point in sorted(line.points, key=lambda point: (not point.best, -point.y)):
        x, y = scale.x(point.x), scale.y(point.y)
        interval = "" if point.low is None or point.high is None else f" ({percent(point.low)}–{percent(point.high)})"
        tooltip = escape(f"{point.name}: clean {percent(point.x)} %, worst case {percent(point.y)} %{interval}")
        if point.low is not None and point.high is not None:
            parts.append(f'<path class="whisker" d="M{x:.1f} {scale.y(point.low):.1f}V{scale.y(point.high):.1f}"/>')
        kind = "mark s0" if point.best else "mark hollow"
        position = f"translate({x:.1f} {y:.1f})"
        title = f"<title>{tooltip}</title>"
        parts.append(f'<path class="{kind}" transform="{position}" d="{SHAPES[0]}">{title}</path>')
        spot = _free_spot(x, y, point.name, occupied)
        if spot is not None:
            at_x, at_y, anchor = spot
            text = (
                f'<text class="name" x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'
            )
            parts.append(text)
    return "".join(parts)


def _free_spot(
    x: float, y: float, name: str, occupied: list[tuple[float, float, float, float]]
) -> tuple[float, float, str] | None:
    """A free position for a name beside its point; None if there is none, so that only the tooltip shows it."""
    width = 6.3 * len(name) + 5
    sides = (8, "start"), (-8, "end")  # on the right first, so that names of one point are a list beside it
    for (side, anchor), shift in itertools.product(sides, (4, -8, 16, -20, 28, -32, -44, -56, -68)):
        left = x + side - width if anchor == "end" else x + side
        box = (left, y + shift - 10, left + width, y + shift + 2)
        inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
        if inside and not any(_overlap(box, other) for other in occupied):
            occupied.append(box)
            return x + side, y + shift, anchor
    return None


def _overlap(first: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return first[0] < other[2] and other[0] < first[2] and first[1] < other[3] and other[1] < first[3]


def _legend(lines: Sequence[Line]) -> str:
    return f'<ul class="legend">{"".join(_entries(lines))}</ul>'


def _entries(lines: Sequence[Line]) -> Iterator[str]:
    for number, line in enumerate(lines):
        colour = number % COLOURS
        yield (
            '<li><svg viewBox="0 0 26 12" aria-hidden="true">'
            f'<path class="line s{colour} d{number // COLOURS}" d="M1 6H25"/>'
            f'<path class="mark s{colour}" transform="translate(13 6)" d="{SHAPES[number % len(SHAPES)]}"/></svg>'
            f"{breakable(escape(line.name))}</li>"
        )
