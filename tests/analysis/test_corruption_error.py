"""The mean corruption error, from results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from advbench.analysis.corruption_error import with_reference
from advbench.errors import UsageError


def results(accuracies: Mapping[str, Mapping[str, float | None]], missing: str = "error") -> dict[str, Any]:
    """Results of models, without a defense, under corruptions."""
    cells = [
        {
            "dataset": "d",
            "model": f"{model}:size=1",
            "defense": "none",
            "attack": attack,
            "short": {"model": model},
            "perturbation": {"kind": "corruption"},
            "status": "ok" if accuracy is not None else missing,
            "robust_accuracy": accuracy,
        }
        for model, by_attack in accuracies.items()
        for attack, accuracy in by_attack.items()
    ]
    boards = []
    for model, by_attack in accuracies.items():
        row = {"defense": "none", "mean": {"complete": None not in by_attack.values()}}
        boards.append({"dataset": "d", "model": f"{model}:size=1", "kind": "corruption", "rows": [row]})
    other = {"dataset": "d", "model": "m:size=1", "kind": "lp", "rows": [{"defense": "none"}]}
    return {"cells": cells, "leaderboards": [*boards, other]}


def mce(
    accuracies: Mapping[str, Mapping[str, float | None]], reference: str, missing: str = "error"
) -> list[float | None]:
    made = with_reference(results(accuracies, missing), reference)
    assert "mce" not in made["leaderboards"][-1]["rows"][0]  # attacks have none
    return [board["rows"][0]["mce"] for board in made["leaderboards"][:-1]]


def test_errors_are_summed_over_severities_and_ratios_averaged_over_corruptions() -> None:
    reference = {"fog:severity=1": 0.9, "fog:severity=5": 0.5, "blur:severity=3,edge=near": 0.8}
    other = {"fog:severity=1": 0.8, "fog:severity=5": 0.5, "blur:severity=3,edge=near": 0.9}
    accuracies = {"m": reference, "n": other}
    expected = [1, pytest.approx(((0.2 + 0.5) / (0.1 + 0.5) + 0.1 / 0.2) / 2)]
    assert mce(accuracies, "m") == mce(accuracies, "m:size=1") == expected


@pytest.mark.parametrize("missing", ["error", "skipped"])
def test_a_missing_result_leaves_no_number(missing: str) -> None:
    assert mce({"m": {"fog": 0.5, "blur": 0.5}, "n": {"fog": 0.5, "blur": None}}, "m", missing) == [1, None]
    assert mce({"m": {"fog": 0.5, "blur": None}, "n": {"fog": 0.5, "blur": 0.5}}, "m", missing) == [None, None]


def test_a_reference_without_errors_leaves_no_number() -> None:
    assert mce({"m": {"fog": 1.0}, "n": {"fog": 0.5}}, "m") == [None, None]


def test_the_reference_is_a_model_of_the_run() -> None:
    given = results({"m": {"fog": 0.5}})
    assert with_reference(given, None) == given
    with pytest.raises(UsageError, match=r"reference o: give a model of this run; there are: m$"):
        with_reference(given, "o")
