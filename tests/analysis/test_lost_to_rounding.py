"""Success that rounding undoes is a finding only where it is more than what rounding makes, and than chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from advbench.analysis import summarise
from advbench.analysis.sanity.finding import Seen
from advbench.analysis.sanity.hygiene import lost_to_rounding

N = 200


def cell(lost: int, won: int, *, budget: bool = True) -> Seen:
    """All samples are class 1; half are fooled; rounding turns some of these back, and some of the others."""
    attacked = np.array([0] * (N // 2) + [1] * (N // 2))
    rounded = attacked.copy()
    rounded[:lost], rounded[N - won :] = 1, 0
    coordinates = {name: name[0] for name in ("dataset", "model", "attack", "threat", "defense")}
    told: dict[str, Any] = {
        **coordinates,
        "short": {"attack": "some-attack", "defense": "some-defense"},
        "budget": {"norm": "linf", "eps": 0.3} if budget else None,
        "parameters": {},
    }
    record = {
        **coordinates,
        "status": "ok",
        "n": N,
        "seconds": 1.0,
        "craft_seconds": 1.0,
        **{name: np.ones(N, dtype=int) for name in ("labels", "clean_correct", "attacked_clean_predictions")},
        "adversarial_correct": attacked,
        "attacked_predictions": attacked,
        "attacked_rounded_predictions": rounded,
        "linf": np.full(N, 0.3),
        "l2": np.full(N, 3.0),
    }
    return Seen(0, told, summarise(record, None))


@pytest.mark.parametrize(("lost", "won"), [(6, 0), (12, 2), (40, 20)])
def test_more_lost_than_won_is_found_with_both_numbers(lost: int, won: int) -> None:
    (finding,) = lost_to_rounding([cell(lost, won)])
    assert finding.criterion == "lost-to-rounding"
    assert f"{lost} of {N} images of some-attack no longer fool" in finding.message
    assert f"{won} others do" in finding.message


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (2, 0), (6, 6), (9, 6), (20, 30)])
def test_few_and_as_many_both_ways_are_none(lost: int, won: int) -> None:
    assert list(lost_to_rounding([cell(lost, won)])) == []


def test_minimal_attacks_end_on_the_boundary_by_design() -> None:
    assert list(lost_to_rounding([cell(40, 0, budget=False)])) == []
