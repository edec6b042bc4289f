"""Success lost by rounding is a finding if it significantly exceeds the success gained by rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from advbench.analysis import summarise
from advbench.analysis.sanity.finding import FinishedCell
from advbench.analysis.sanity.lost_success import lost_to_rounding

N = 200


def cell(lost: int, gained: int, *, budget: bool = True) -> FinishedCell:
    """All samples are of class 1, and half are fooled; rounding changes the prediction of some in each half."""
    attacked = np.array([0] * (N // 2) + [1] * (N // 2))
    rounded = attacked.copy()
    rounded[:lost], rounded[N - gained :] = 1, 0
    coordinates = {name: name[0] for name in ("dataset", "model", "attack", "threat", "defense")}
    described: dict[str, Any] = {
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
    return FinishedCell(0, described, summarise(record, None))


@pytest.mark.parametrize(("lost", "gained"), [(6, 0), (12, 2), (40, 20)])
def test_more_lost_than_gained_is_a_finding_with_both_numbers(lost: int, gained: int) -> None:
    (finding,) = lost_to_rounding([cell(lost, gained)])
    assert finding.criterion == "lost-to-rounding"
    assert f"{lost} of {N} images of some-attack no longer fool" in finding.message
    assert f"{gained} others do" in finding.message


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (2, 0), (6, 6), (9, 6), (20, 30)])
def test_few_changes_or_equally_many_in_both_directions_are_not_a_finding(lost: int, gained: int) -> None:
    assert list(lost_to_rounding([cell(lost, gained)])) == []


def test_minimal_attacks_are_not_checked() -> None:
    assert list(lost_to_rounding([cell(40, 0, budget=False)])) == []
