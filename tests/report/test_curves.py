"""Charts as plain data agree with the results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from advbench.report.charts import eps_charts, scatter_charts, sweep_charts
from advbench.report.sweeps import as_number, family, sweep_groups, with_sweep_names

pytestmark = pytest.mark.slow

Cells = dict[tuple[str, str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def results(real_run: Path) -> dict[str, Any]:
    """Results of a real run."""
    loaded: dict[str, Any] = json.loads((real_run / "board.json").read_text())
    return loaded


@pytest.fixture
def cells(results: dict[str, Any]) -> Cells:
    """Its cells by the short specs of threat, attack and defense, with the parameters of sweeps."""
    named = {"jpeg": "jpeg:quality=75"}
    return {
        (cell["threat"], cell["short"]["attack"], named.get(name := cell["short"]["defense"], name)): cell
        for cell in results["cells"]
    }


@pytest.mark.slow
def test_minimal_attacks_have_one_oblivious_curve_and_one_adaptive_curve_per_defense(
    results: dict[str, Any], cells: Cells
) -> None:
    charts = {chart.title: chart for chart in eps_charts(results) if chart.steps}
    bare = charts["Robust accuracy by L2 eps: undefended model, minimal attacks"]
    assert [line.name for line in bare.lines] == ["deepfool"]
    curve = cells["oblivious", "deepfool", "tvm"]["curve"]
    assert [(point.x, point.y) for point in bare.lines[0].points] == list(
        zip(curve["eps"], curve["accuracy"], strict=True)
    )
    adaptive = charts["Robust accuracy by L2 eps: deepfool, adaptive"]
    assert [line.name for line in adaptive.lines] == ["none", "jpeg:quality=25", "jpeg:quality=75", "tvm"]


@pytest.mark.parametrize("threat", ["oblivious", "adaptive"])
def test_a_swept_attack_gives_one_curve_per_defense(results: dict[str, Any], cells: Cells, threat: str) -> None:
    chart = next(c for c in eps_charts(results) if c.title == f"Robust accuracy by L∞ eps: pgd:steps=5, {threat}")
    for line in chart.lines:
        first, *rest = line.points
        measured = [cells[threat, f"pgd:eps={eps},steps=5", line.name] for eps in ("0.05", "0.1")]
        assert (first.x, first.y) == (0, measured[0]["clean_accuracy"])
        assert [(point.x, point.y, point.low, point.high) for point in rest] == [
            (cell["budget"]["eps"], cell["robust_accuracy"], *cell["robust_accuracy_ci95"]) for cell in measured
        ]


def test_a_swept_defense_has_one_chart_per_threat_with_one_line_per_attack(
    results: dict[str, Any], cells: Cells
) -> None:
    charts = {chart.title: chart for chart in sweep_charts(results)}
    assert set(charts) == {"jpeg by quality, oblivious", "jpeg by quality, adaptive"}
    chart = charts["jpeg by quality, adaptive"]
    assert [line.name for line in chart.lines] == ["clean", "pgd:eps=0.05,steps=5", "pgd:eps=0.1,steps=5", "deepfool"]
    assert [point.x for point in chart.lines[0].points] == [25, 75]
    last = chart.lines[-1].points[1]
    assert last.y == cells["adaptive", "deepfool", "jpeg:quality=75"]["robust_accuracy"]


def test_two_parameters_swept_around_one_point_give_two_charts(results: dict[str, Any]) -> None:
    text = json.dumps(results)
    specs = {row["defense"] for row in results["leaderboards"][0]["rows"]}
    tvm = next(spec for spec in specs if spec.startswith("tvm"))
    jpegs = sorted(spec for spec in specs if spec.startswith("jpeg"))
    for jpeg, other in zip(jpegs, ("drop=0.5,weight=0.3", "drop=0.9,weight=0.03"), strict=True):
        text = text.replace(jpeg, tvm.replace("drop=0.5,weight=0.03", other))
    titles = {chart.title for chart in sweep_charts(json.loads(text)) if chart.title.endswith("oblivious")}
    assert titles == {"tvm by weight at drop=0.5, oblivious", "tvm by drop at weight=0.03, oblivious"}


def test_the_pareto_front_has_the_defenses_that_no_other_dominates(results: dict[str, Any]) -> None:
    (chart,) = scatter_charts(results)
    points = chart.lines[0].points
    assert len(points) == 4
    for point in points:
        beaten = any(
            other.x >= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y) for other in points
        )
        assert point.best != beaten


def test_a_group_is_placed_by_its_best_row_and_sorted_by_parameters() -> None:
    specs = ["jpeg:quality=90", "tvm:drop=0.5", "jpeg:quality=8/255", "none", "jpeg:quality=100"]
    groups = sweep_groups([{"defense": spec} for spec in specs])
    assert [[row["defense"] for row in group] for group in groups] == [
        ["jpeg:quality=8/255", "jpeg:quality=90", "jpeg:quality=100"], ["tvm:drop=0.5"], ["none"],
    ]  # fmt: skip


def test_families_are_names_without_parameters() -> None:
    assert family("jpeg:quality=75+tvm:drop=0.5") == "jpeg+tvm"
    assert family("<no spec>") == "<no spec>"


def test_sweep_names_are_specs_and_do_not_change_when_applied_twice() -> None:
    full = [f'tint:label="a,+b",k={k}' for k in (1, 2)]
    short = ['tint:label="a,+b"', full[1]]
    cells = [{"defense": spec, "short": {"defense": name}} for spec, name in zip(full, short, strict=True)]
    named = with_sweep_names(cells)
    assert [cell["short"]["defense"] for cell in named] == full
    assert with_sweep_names(named) == named


@pytest.mark.parametrize(("text", "number"), [("0.5", 0.5), ("8/255", 8 / 255), ("true", None), ("1/0", None)])
def test_numbers_among_parameters(text: str, number: float | None) -> None:
    assert as_number(text) == number
