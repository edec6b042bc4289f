"""Scatter charts name every point legibly."""

from __future__ import annotations

import itertools
import re

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from advbench.report.charts import Chart, Line, Point
from advbench.report.figures.curves import draw_chart
from advbench.report.figures.style import SETTINGS
from advbench.report.page.charts import chart_figure

QUICKSTART = [("none", 0.98), ("jpeg", 0.98), ("gaussian", 0.98), ("kmeans", 0.98), ("tvm", 0.97)]


def scatter(points: list[Point]) -> Chart:
    return Chart(
        "scatter", "mnist-5k", "mnist-cnn", "Clean accuracy and worst case, oblivious and adaptive", "clean accuracy",
        "worst-case robust accuracy", (Line("defenses", tuple(points)),),
    )  # fmt: skip


@pytest.mark.parametrize(
    "points",
    [
        [Point(clean, 0.0, 0.0, 0.037, name) for name, clean in QUICKSTART],
        [Point(1.0, 1.0, 0.96, 1.0, name) for name, _ in QUICKSTART],
        [Point(0.5 + 0.01 * index, 0.3, 0.2, 0.4, f"jpeg:quality={index}") for index in range(40)],
    ],
    ids=["all at 0", "all at 100", "many"],
)
def test_names_in_print_do_not_overlap_and_stay_inside_the_axes(points: list[Point]) -> None:
    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = draw_chart(scatter(points))
        renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        figure.draw_without_rendering()
    (axis,) = figure.axes
    inside = axis.get_window_extent(renderer)
    names = [text for text in axis.texts if text.get_text()]
    assert sorted(text.get_text() for text in names) == sorted(point.name for point in points)
    boxes = [mpl.text.Text.get_window_extent(text, renderer) for text in names]
    for box in boxes:
        assert inside.y0 <= box.y0 <= box.y1 <= inside.y1
        assert inside.x0 <= box.x0
    for upper, lower in itertools.pairwise(sorted(boxes, key=lambda box: -box.y0)):
        assert lower.y1 <= upper.y0 + 1


def test_in_the_page_the_names_of_one_point_are_a_list_beside_it() -> None:
    drawn = chart_figure(scatter([Point(clean, 0.0, 0.0, 0.037, name) for name, clean in QUICKSTART]))
    found = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)">([^<]+)<', drawn)
    places = {name: (float(x), float(y), anchor) for x, y, anchor, name in found}
    assert set(places) == {name for name, _ in QUICKSTART}
    of_point = [places[name] for name, clean in QUICKSTART if clean == 0.98]
    assert {(x, anchor) for x, _, anchor in of_point} == {(of_point[0][0], "start")}
    heights = sorted(y for _, y, _ in of_point)
    assert all(lower - upper >= 12 for upper, lower in itertools.pairwise(heights))


@pytest.mark.parametrize("clean", [1.0, 0.999, 0.98, 0.55, 0.1, 0.0])
def test_the_horizontal_axis_has_numbers(clean: float) -> None:
    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = draw_chart(scatter([Point(clean, 0.0, 0.0, 0.16, name) for name in ("none", "jpeg")]))
        figure.draw_without_rendering()
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    shown = [float(label.get_text()) for label in axis.get_xticklabels() if left <= label.get_position()[0] <= right]
    assert shown
    assert max(shown) <= 100
    assert min(abs(tick - 100 * clean) for tick in shown) <= max(1, 101 - 100 * clean) / 4
