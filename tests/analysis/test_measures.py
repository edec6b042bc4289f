"""Every number is what its definition says, on records small enough to count by hand."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from advbench.analysis import measure_cell, wilson, worst_case


def cell(clean: str, adversarial: str, **changes: Any) -> dict[str, Any]:
    """A record from bits; by default the attacked classifier is the scored one."""
    n = len(clean)
    bits = {"clean_correct": [int(b) for b in clean], "adversarial_correct": [int(b) for b in adversarial]}
    attacked = {
        "attacked_clean_predictions": [0 if b == "1" else 1 for b in clean],
        "attacked_predictions": [0 if b == "1" else 1 for b in adversarial],
    }
    distances = {"linf": [float(i) for i in range(n)], "l2": [10.0 * i for i in range(n)]}
    return {"n": n, "labels": [0] * n, **bits, **attacked, **distances, **changes}


def test_robust_accuracy_counts_samples_right_both_clean_and_attacked() -> None:
    measured = measure_cell(cell("11110", "11001"))
    assert measured["clean_accuracy"] == 0.8
    assert measured["robust_accuracy"] == 0.4
    assert measured["attack_success_rate"] == 0.5


def test_distortion_is_the_median_over_images_that_turned_the_attacked_classifier() -> None:
    measured = measure_cell(cell("11110", "10010"))
    assert (measured["median_linf"], measured["median_l2"]) == (1.5, 15.0)
    assert measured["attack_failures"] == 2


def test_what_cannot_be_measured_is_none_and_not_a_number() -> None:
    assert measure_cell(cell("000", "000"))["attack_success_rate"] is None
    assert measure_cell(cell("111", "111"))["median_l2"] is None


def test_the_worst_case_is_taken_per_sample_and_not_over_averages() -> None:
    worst = worst_case([cell("1111", "1100"), cell("1111", "0011"), cell("1111", "1111")])
    assert worst["accuracy"] == 0.0
    assert worst_case([cell("1111", "1100"), cell("1111", "0111")])["accuracy"] == 0.25


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (917, 1000), (1, 1)])
def test_wilson_equals_scipys(successes: int, trials: int) -> None:
    reference = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_an_impossible_proportion_is_refused() -> None:
    for successes, trials in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="no proportion"):
            wilson(successes, trials)
