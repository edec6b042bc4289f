"""Legends of printed charts show every name in full, inside the figure."""

from __future__ import annotations

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from advbench.report.charts import Chart, Line, Point
from advbench.report.figures.curves import draw_chart
from advbench.report.figures.style import SETTINGS

SHORT = ("clean", "fgsm", "cw", "deepfool:steps=100")
MIDDLE = ("clean", "fgsm:search=minimal", "pgd:step_size=0.01,search=minimal", "deepfool:steps=100", "cw", "fgsm")
LONG = (
    "fgsm",
    "torch-module:build=net.py:make,args=a-very-long-text-without-any-comma-in-it-that-goes-on-and-on,weights=w.pt",
    "jpeg:quality=75+gaussian:radius=2+kmeans:clusters=2+tvm:weight=0.03,drop=0.5+jpeg:quality=20+gaussian:radius=1",
)


@pytest.mark.parametrize(("names", "kind"), [(SHORT, "sweep"), (MIDDLE, "sweep"), (LONG, "eps"), (SHORT[:1], "eps")])
def test_names_are_in_full_and_inside_the_figure(names: tuple[str, ...], kind: str) -> None:
    lines = tuple(Line(name, (Point(0.1, 0.9), Point(0.2, 0.5))) for name in names)
    with mpl.rc_context(SETTINGS):  # type: ignore[arg-type]
        figure = draw_chart(Chart(kind, "mnist", "mnist-cnn", "a title", "across", "accuracy", lines, kind == "eps"))
        canvas = FigureCanvasAgg(figure)
        figure.draw_without_rendering()
    (legend,) = figure.legends
    page = figure.bbox
    boxes = [legend.get_window_extent(canvas.get_renderer())]
    boxes += [text.get_window_extent() for text in legend.get_texts()]
    for box in boxes:
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert page.y0 <= box.y0 <= box.y1 <= page.y1
    labels = [text.get_text().replace("\n", "").replace(" ", "") for text in legend.get_texts()]
    assert labels == [name.replace(" ", "") for name in names]
    assert figure.axes[0].get_window_extent().height > figure.dpi, "an inch is left for the lines"
    assert legend._ncols == (2 if names == SHORT else 1)
