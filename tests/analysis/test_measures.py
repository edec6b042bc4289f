"""Measures are checked against their definitions, on records small enough to count by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from advbench.analysis import measure_cell, wilson, worst_case
from advbench.analysis.measures import accuracy_at


def cell(clean: str, adversarial: str, **changes: Any) -> dict[str, Any]:
    """A record from bits; by default the attacked classifier is the defended model."""
    n = len(clean)
    bits = {"clean_correct": [int(b) for b in clean], "adversarial_correct": [int(b) for b in adversarial]}
    attacked = {
        "attacked_clean_predictions": [0 if b == "1" else 1 for b in clean],
        "attacked_predictions": [0 if b == "1" else 1 for b in adversarial],
    }
    distances = {"linf": [float(i) for i in range(n)], "l2": [10.0 * i for i in range(n)]}
    return {"n": n, "labels": [0] * n, **bits, **attacked, **distances, **changes}


def test_robust_accuracy_counts_samples_correct_both_clean_and_attacked() -> None:
    measured = measure_cell(cell("11110", "11001"))
    assert measured["clean_accuracy"] == 0.8
    assert measured["robust_accuracy"] == 0.4
    assert measured["attack_success_rate"] == 0.5


def test_distortion_is_the_median_over_images_that_fooled_the_attacked_classifier() -> None:
    measured = measure_cell(cell("11110", "10010"))
    assert (measured["median_linf"], measured["median_l2"]) == (1.5, 15.0)
    assert measured["attack_failures"] == 2


def test_measures_over_no_samples_are_none() -> None:
    assert measure_cell(cell("000", "000"))["attack_success_rate"] is None
    assert measure_cell(cell("111", "111"))["median_l2"] is None


def test_the_worst_case_is_the_minimum_per_sample() -> None:
    worst = worst_case([cell("1111", "1100"), cell("1111", "0011"), cell("1111", "1111")])
    assert worst["accuracy"] == 0.0
    assert worst_case([cell("1111", "1100"), cell("1111", "0111")])["accuracy"] == 0.25


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (10, 10), (3, 10), (917, 1000), (1, 1)])
def test_wilson_equals_scipy(successes: int, trials: int) -> None:
    reference = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((reference.low, reference.high), abs=1e-12)


def test_an_impossible_proportion_is_an_error() -> None:
    for successes, trials in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="not a proportion"):
            wilson(successes, trials)


def test_a_minimal_attack_gives_accuracy_at_every_eps() -> None:
    # Five samples: one is predicted incorrectly, one is never fooled, the others are fooled at .1, .3 and .3.
    record = cell("11101", "00001", linf=[0.3, 0.1, 0.3, 0.0, 0.0])
    curve = accuracy_at(record, "linf")
    assert curve == {"norm": "linf", "eps": [0.0, 0.1, 0.3], "accuracy": [0.8, 0.6, 0.2]}


def test_a_curve_has_at_most_a_hundred_steps_and_ends_at_the_largest_distance() -> None:
    record = cell("1" * 1000, "0" * 1000, l2=[i / 1000 for i in range(1, 1001)])
    curve = accuracy_at(record, "l2")
    assert len(curve["eps"]) == 101
    assert curve["eps"][-1] == 1.0
    assert all(share == pytest.approx(1 - eps) for eps, share in zip(curve["eps"], curve["accuracy"], strict=True))


def test_without_fooled_samples_the_curve_has_one_point() -> None:
    assert accuracy_at(cell("110", "110"), "linf") == {"norm": "linf", "eps": [0.0], "accuracy": [pytest.approx(2 / 3)]}


def drawn(clean: list[str], robust: list[str]) -> dict[str, Any]:
    """A record with several draws."""
    bits = {
        "clean_correct_draws": [[int(b) for b in one] for one in clean],
        "robust_draws": [[int(b) for b in one] for one in robust],
    }
    return cell(clean[0], robust[0], **bits)


def test_several_draws_are_measured_by_mean_and_spread() -> None:
    measured = measure_cell(drawn(["1111", "1110"], ["1100", "0000"]))
    assert measured["clean_accuracy"] == pytest.approx(7 / 8)
    assert measured["robust_accuracy"] == 0.25
    assert measured["robust_accuracy_ci95"] == list(wilson(1, 4))
    assert measured["robust_accuracy_draws"] == {"n": 2, "min": 0.0, "max": 0.5, "std": pytest.approx(0.5**0.5 / 2)}
    assert measured["attack_success_rate"] == pytest.approx((3.5 - 1) / 3.5)


def test_the_protocols_are_one_draw_the_mean_and_all_draws() -> None:
    protocols = measure_cell(drawn(["1111", "1110", "1101"], ["1100", "0100", "1000"]))["protocols"]
    accuracies = {name: (one["clean_accuracy"], one["robust_accuracy"]) for name, one in protocols.items()}
    assert accuracies == {"one": (1.0, 0.5), "mean": (pytest.approx(10 / 12), pytest.approx(4 / 12)), "any": (0.5, 0.0)}
    assert protocols["any"]["robust_accuracy_ci95"] == list(wilson(0, 4))
    assert measure_cell(cell("11", "10"))["protocols"] is None


def test_the_worst_case_of_several_draws_is_the_mean_over_draws() -> None:
    first, second = drawn(["1111"] * 2, ["1100", "0011"]), drawn(["1111"] * 2, ["1010", "0111"])
    assert worst_case([first, second])["accuracy"] == pytest.approx((1 + 2) / 2 / 4)


@pytest.mark.parametrize(("more", "fewer"), [(8, 1), (6, 4), (3, 2), (5, 5)])
def test_the_worst_case_is_never_above_a_cell_whatever_their_numbers_of_draws(more: int, fewer: int) -> None:
    rng = np.random.default_rng(more)

    def record(draws: int) -> dict[str, Any]:
        texts = ["".join(map(str, rng.integers(0, 2, 20))) for _ in range(draws)]
        return drawn(["1" * 20] * draws, texts)

    for _ in range(10):
        cells = [record(more), record(fewer)]
        lowest = min(measure_cell(one)["robust_accuracy"] for one in cells)
        assert worst_case(cells)["accuracy"] <= lowest + 1e-9
