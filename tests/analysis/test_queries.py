"""Queries of a cell: medians over the samples that are broken, the curve of successes, and best sizes."""

from __future__ import annotations

from typing import Any

import pytest

from advbench.analysis.queries import CHECKPOINTS, mean_queries, measure_queries


def record(**changes: Any) -> dict[str, Any]:
    """Eight samples, the last of which is misclassified clean; the attack breaks four in the score."""
    return {
        "n": 8,
        "clean_correct": [1, 1, 1, 1, 1, 1, 1, 0],
        "adversarial_correct": [0, 0, 0, 0, 1, 1, 1, 0],
        "total_forwards": 800,
        "total_backwards": None,
        "forwards": [10, 20, 400, 70, 100, 100, 100, 1],
        "first_success": [10, 20, 300, -1, 5, -1, -1, 1],
        **changes,
    }


def test_the_median_is_over_the_samples_broken_in_the_score() -> None:
    measured = measure_queries(record(), None)
    assert measured is not None
    assert (measured["forwards"], measured["backwards"], measured["median_forwards"]) == (800, 0, 85.0)
    assert measured["median_to_success"] == 45.0, "of 10, 20, 300, and 70 of a success that was never queried"
    assert measured["success"] == {"queries": [10, 20, 70, 300], "rate": [1 / 7, 2 / 7, 3 / 7, 4 / 7]}
    assert measured["best_sizes"] is None


def test_the_curve_ends_at_the_attack_success_rate_and_has_few_points() -> None:
    n = 1000
    many = {
        "n": n,
        "clean_correct": [1] * n,
        "adversarial_correct": [0] * 900 + [1] * 100,
        "forwards": [2000] * n,
        "first_success": [*range(1, 901), *[-1] * 100],
    }
    curve = measure_queries(record(**many), None)["success"]  # type: ignore[index]
    assert len(curve["queries"]) == len(curve["rate"]) == 101
    assert (curve["queries"][-1], curve["rate"][-1]) == (900, 0.9)
    assert all(rate == pytest.approx(queries / 1000) for queries, rate in zip(*curve.values(), strict=True))


def test_a_targeted_attack_succeeds_at_its_targets() -> None:
    targets = {"targets": [3, 3, 3, 3, 3, 3, -1, 3], "target_reached": [[1, 0, 0, 0, 1, 0, 0, 1]]}
    measured = measure_queries(record(**targets), None)
    assert measured is not None
    assert measured["median_to_success"] == 7.5
    assert measured["success"] == {"queries": [5, 10], "rate": [1 / 6, 2 / 6]}


def test_best_sizes_are_medians_over_the_samples_correct_clean() -> None:
    columns = [[0.3, 0.4, 0.5, 0.6, -1, -1, -1, 0], [0.3, 0.4, 0.5, 0.5, 0.2, -1, -1, 0], [-1] * 8]
    minimal = record(best_sizes=columns)
    del minimal["first_success"]
    measured = measure_queries(minimal, None)
    assert measured is not None
    assert measured["best_sizes"] == {"norm": "l2", "queries": [100, 200, 500], "median": [0.6, 0.5, None]}
    assert measured["success"] is measured["median_to_success"] is None
    assert measure_queries(minimal, "linf")["best_sizes"]["norm"] == "linf"  # type: ignore[index]
    assert CHECKPOINTS[:9] == (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


def test_without_rows_there_are_totals_alone_and_earlier_records_have_nothing() -> None:
    hidden = measure_queries(record(forwards=[-1] * 8, first_success=[-1] * 8), None)
    assert hidden is not None
    assert hidden["forwards"] == 800
    assert {name for name, value in hidden.items() if value is None} == {
        *("median_forwards", "median_to_success", "success", "best_sizes"),
    }
    earlier = record()
    for name in ("total_forwards", "total_backwards", "forwards", "first_success"):
        del earlier[name]
    assert measure_queries(earlier, None) is None


def test_seeds_are_averaged() -> None:
    one = measure_queries(record(), None)
    two = measure_queries(record(total_forwards=900, first_success=[30, 20, 300, -1, 5, -1, -1, 1]), None)
    mean = mean_queries([one, two])
    assert mean is not None
    assert (mean["forwards"], mean["median_to_success"]) == (850, 47.5)
    assert mean["success"] == {
        "queries": [10, 20, 30, 70, 300],
        "rate": pytest.approx([0.5 / 7, 1.5 / 7, 2 / 7, 3 / 7, 4 / 7]),
    }
    assert mean_queries([one, None]) is None
