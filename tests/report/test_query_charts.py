"""Success against queries: charts, the heading of a board, and the columns of a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.report.board import make_boards
from advbench.report.charts import query_charts
from advbench.report.data_files import Csv
from advbench.report.page.charts import chart_figure, powers_of_ten

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[1] / "cli" / "queries_plugin.py"

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def results(toy: Toy) -> dict[str, Any]:
    """Results of black-box attacks and one with gradients."""
    flags = ("--plugin", PLUGIN, "--threats", "oblivious", "adaptive")
    called, loaded = toy(*flags, attacks=["lines", "lines:queries=30", "lines:eps=none", "climb"])
    assert called.code == 0
    return loaded


def test_black_box_attacks_have_a_curve_for_each_defense_that_ends_at_their_success_rate(
    results: dict[str, Any],
) -> None:
    charts = {chart.title: chart for chart in query_charts(results)}
    assert set(charts) == {
        f"Attack success by queries: {what}, {threat}"
        for what in ("lines", "lines:queries=30", "toy-keep")
        for threat in ("oblivious", "adaptive")
    }
    chart = charts["Attack success by queries: lines, adaptive"]
    assert [line.name for line in chart.lines] == ["toy-keep", "toy-dim"]
    cells = {(c["threat"], c["short"]["attack"], c["short"]["defense"]): c for c in results["cells"]}
    for line in chart.lines:
        cell = cells["adaptive", "lines", line.name]
        assert line.points[-1].y == pytest.approx(cell["attack_success_rate"])
        assert [point.x for point in line.points] == sorted({point.x for point in line.points})
        assert line.points[0].x == 1
    both = charts["Attack success by queries: toy-keep, oblivious"]
    assert [line.name for line in both.lines] == ["lines", "lines:queries=30"]


def test_with_a_limit_attacks_with_gradients_have_curves_as_well(toy: Toy) -> None:
    _, limited = toy("--plugin", PLUGIN, "--max-queries", 20, attacks=["climb"])
    assert [chart.title for chart in query_charts(limited)] == ["Attack success by queries: climb, oblivious"]


def test_the_heading_has_the_medians_over_successes(results: dict[str, Any]) -> None:
    (board,) = make_boards(results)
    lines = [detail for column in board.columns if column.title == "lines" for detail in column.details]
    medians = [
        cell["queries"]["median_to_success"]
        for cell in results["cells"]
        if (cell["short"]["attack"], cell["threat"]) == ("lines", "adaptive")
    ]
    low, high = f"{round(min(medians)):,}", f"{round(max(medians)):,}"
    assert f"median {low if low == high else f'{low}–{high}'} queries" in lines
    assert not any("queries" in line for column in board.columns if column.title == "climb" for line in column.details)


def test_a_page_draws_queries_on_a_logarithmic_axis(results: dict[str, Any]) -> None:
    chart = query_charts(results)[0]
    drawn = chart_figure(chart)
    assert ">10</text>" in drawn
    assert "queries" in drawn
    assert powers_of_ten(1, 3000) == [1, 10, 100, 1000]
    assert powers_of_ten(1, 10_000) == [1, 10, 100, 1000, 10_000]


def test_a_csv_has_the_numbers(results: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(Csv().render(results))))
    for row, cell in zip(rows, results["cells"], strict=True):
        assert float(row["forwards"]) == cell["queries"]["forwards"]
        assert float(row["median_forwards"]) == cell["queries"]["median_forwards"]
        assert row["median_queries_to_success"] == str(cell["queries"]["median_to_success"] or "")
