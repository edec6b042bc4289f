"""A cell says in which norm its attack's perturbations are told."""

from __future__ import annotations

from typing import Any

import pytest

from advbench.api import Attack, Budget, ContractError, DataSources
from advbench.contracts.budgets import check_norm
from advbench.discovery.loading import discover
from advbench.evaluation.plan.build import build_plan, resolve_axes
from advbench.specs import Suite


class Stub(Attack):
    """An attack that is only asked what it is."""

    def __init__(self, budget: Any, norm: Any) -> None:
        self._answers = budget, norm

    name = "stub"

    def __setattr__(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)

    def run(self, *_: Any) -> Any:
        raise AssertionError("not asked")

    def budget(self) -> Any:
        return self._answers[0]

    def minimized_norm(self) -> Any:
        return self._answers[1]


@pytest.mark.parametrize(
    ("budget", "norm", "expected"),
    [(None, "l2", "l2"), (None, None, None), (Budget("linf", 0.3), None, "linf"), (Budget("linf", 0.3), "l2", "linf")],
)
def test_the_norm_is_the_budgets_or_that_of_the_minimal_attack(budget: Any, norm: Any, expected: Any) -> None:
    assert check_norm(Stub(budget, norm)) == expected


@pytest.mark.parametrize("norm", ["l7", 2, "L2"])
def test_a_norm_that_is_none_is_refused(norm: Any) -> None:
    with pytest.raises(
        ContractError,
        match=r"attack 'stub' has the minimized_norm .*; expected one of linf, l2, l1, l0, l0-pixels, or None",
    ):
        check_norm(Stub(None, norm))


def test_the_plan_knows_the_norm_of_every_attack(tmp_path: Any) -> None:
    attacks = ("fgsm", "fgsm:search=minimal", "deepfool", "deepfool:norm=linf", "cw")
    suite = Suite("test", datasets=("mnist-20",), models=("mnist-cnn",), attacks=attacks, defenses=("none",))
    plan = build_plan(resolve_axes(discover(), suite), DataSources(tmp_path), "cpu")
    told = [(cell.norm, cell.budget is None) for cell in plan.cells]
    assert told == [("linf", False), ("linf", True), ("l2", True), ("linf", True), ("l2", True)]
