"""Summaries agree with the records that they are computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from advbench.analysis import measure_cell, summarise, worst_case
from advbench.analysis.measures import worst_case_from_bits
from advbench.analysis.summary import _summarise_images

COORDINATES = {"dataset": "d", "model": "m", "attack": "a", "threat": "oblivious", "defense": "x"}


def record(**changes: Any) -> dict[str, Any]:
    """Six samples: the attacked classifier predicts the last one incorrectly; four of the others are fooled."""
    return {
        **COORDINATES,
        "status": "ok",
        "n": 6,
        "seconds": 0.5,
        "craft_seconds": 2.0,
        "labels": [0, 1, 1, 2, 1, 0],
        "clean_correct": [1, 1, 1, 1, 0, 1],
        "adversarial_correct": [0, 1, 0, 1, 1, 0],
        "attacked_clean_predictions": [0, 1, 1, 2, 1, 1],
        "attacked_predictions": [1, 1, 2, 0, 0, 0],
        "attacked_rounded_predictions": [0, 2, 2, 0, 1, 0],
        "seen": [True, True, True, True, True, True],
        "vanished": [True, False, False, True, False, True],
        "component": [0, -1, 0, 1, 0, -1],
        "linf": [0.1, 0.0, 0.3, 0.2, 0.4, 0.0],
        "l2": [1.0, 0.0, 3.0, 2.0, 4.0, 0.0],
        **changes,
    }


def as_arrays(given: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(value) if isinstance(value, list) else value for name, value in given.items()}


@pytest.mark.parametrize("form", [dict, as_arrays], ids=["lists", "arrays"])
def test_every_number_is_counted_over_the_right_samples(form: Any) -> None:
    summary = summarise(form(record()), "linf")
    assert summary.ok
    assert summary.coordinates == tuple(COORDINATES.values())
    assert summary.measured == measure_cell(record())
    assert (summary.robust, summary.attacked_accuracy) == (2 / 6, 1 / 6)
    assert (summary.attacked_correct, summary.zero_gradients, summary.lost_adversarials) == (5, 2, 1)
    assert (summary.lost_by_rounding, summary.gained_by_rounding) == (2, 1)
    assert summary.chance == 0.5
    assert summary.broken_by == {0: 3, -1: 2, 1: 1}
    assert summary.curve is not None
    assert summary.curve["eps"] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert summary.curve["accuracy"] == [pytest.approx(share / 6) for share in (5, 4, 3, 2, 1)]


def test_values_that_were_not_recorded_are_none() -> None:
    given = record()
    for name in ("seen", "attacked_rounded_predictions", "vanished", "component"):
        del given[name]
    summary = summarise(given, None)
    assert (summary.lost_adversarials, summary.lost_by_rounding, summary.gained_by_rounding) == (None,) * 3
    assert (summary.broken_by, summary.curve) == (None, None)
    assert summary.zero_gradients == 0


def test_the_summary_of_a_failed_cell_has_its_error() -> None:
    failed = {**COORDINATES, "status": "error", "error": "it broke", "n": 6}
    summary = summarise(failed, None)
    assert (summary.ok, summary.error, summary.n) == (False, "it broke", 6)


def test_worst_cases_from_summaries_equal_those_from_records() -> None:
    generator = np.random.default_rng(0)
    records = [
        record(
            n=101,
            clean_correct=[1] * 101,
            adversarial_correct=generator.integers(0, 2, 101).tolist(),
            **{name: [0] * 101 for name in ("labels", "attacked_clean_predictions", "attacked_predictions")},
            **{name: [0.0] * 101 for name in ("linf", "l2")},
            **{name: [0] * 101 for name in ("seen", "vanished", "attacked_rounded_predictions")},
        )
        for _ in range(3)
    ]
    by_hand = sum(all(bits) for bits in zip(*(row["adversarial_correct"] for row in records), strict=True))
    summaries = [summarise(row, None) for row in records]
    assert worst_case(records)["accuracy"] == by_hand / 101
    assert worst_case_from_bits([summary.withstood for summary in summaries], 101) == worst_case(records)


OTHERS = {
    "labels": [0, 1, 1, 2, 1, 1],
    "attacked_clean_predictions": [0, 1, 1, 2, 0, 1],
    "attacked_predictions": [0, 1, 2, 0, 0, 0],
    "attacked_rounded_predictions": [0, 1, 1, 0, 1, 0],
    "seen": [False, False, True, True, True, True],
    "vanished": [False, False, False, True, False, True],
    "component": [1, -1, 0, 1, 0, -1],
    "linf": [0.5, 0.0, 0.3, 0.2, 0.4, 0.0],
    "l2": [5.0, 0.0, 3.0, 2.0, 4.0, 0.0],
}


@pytest.mark.parametrize("form", [dict, as_arrays], ids=["lists", "arrays"])
@pytest.mark.parametrize("changed", OTHERS)
def test_cells_with_other_images_do_not_share_the_cached_part(form: Any, changed: str) -> None:
    """The part of a summary that depends only on the images is cached for the next cell."""
    first, other = form(record()), form(record(**{changed: OTHERS[changed]}))
    _summarise_images.cache_clear()
    expected = summarise(other, "linf")
    _summarise_images.cache_clear()
    before = summarise(first, "linf")
    assert summarise(other, "linf") == expected != before
    assert summarise(first, "linf") == before
    assert summarise(first, "l2").curve != before.curve
    assert summarise(first, None).curve is None


def test_cells_of_one_attack_differ_by_their_defense() -> None:
    first_defense = summarise(record(), "linf")
    second_defense = summarise(record(defense="y", adversarial_correct=[1, 1, 1, 1, 0, 1], seconds=1.5), "linf")
    assert (first_defense.robust, second_defense.robust) == (2 / 6, 5 / 6)
    assert (first_defense.seconds, second_defense.seconds) == (0.5, 1.5)
    assert second_defense.measured["robust_accuracy"] == 5 / 6
    assert first_defense.measured["median_linf"] == second_defense.measured["median_linf"]
