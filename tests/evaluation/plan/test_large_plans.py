"""What a cell of a large plan costs in memory, since a hundred thousand of them are to fit beside torch into a GiB."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advbench.analysis import Summary, build_results
from advbench.api import DataSources
from advbench.discovery.loading import discover
from advbench.evaluation.plan.build import Plan, build_plan, resolve_axes
from advbench.evaluation.plan.cells import Axes
from advbench.evaluation.run.schedule import Schedule, build_schedule
from advbench.report.board import Board, make_boards
from advbench.specs import Suite
from advbench.store import Store

pytestmark = pytest.mark.slow

ATTACKS, DEFENSES = 40, 100
MEASURED: dict[str, Any] = {
    "clean_accuracy": 0.5,
    "robust_accuracy": 0.25,
    "robust_accuracy_ci95": [0.1, 0.4],
    "robust_accuracy_draws": None,
    "protocols": None,
    "attack_success_rate": 0.5,
    "target_success_rate": None,
    "median_size": None,
    "rejection": None,
    "median_linf": 0.1,
    "median_l2": 1.0,
    "attack_failures": 0,
}


@pytest.fixture(scope="module")
def axes() -> list[Axes]:
    suite = Suite(
        "large",
        datasets=("mnist-5k",),
        models=("mnist-cnn",),
        attacks=tuple(f"fgsm:eps={eps / 1000}" for eps in range(1, ATTACKS + 1)),
        defenses=tuple(f"gaussian:sigma={sigma / 100}" for sigma in range(1, DEFENSES + 1)),
        threats=("oblivious",),
        limit=4,
    )
    return resolve_axes(discover(), suite)


def peak_of(make: Callable[[], Any]) -> tuple[Any, float]:
    """What is made, and how many bytes a cell takes at most meanwhile."""
    make()  # once before, for what is kept of components
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[1] / (ATTACKS * DEFENSES)
    finally:
        tracemalloc.stop()


def test_a_cell_to_do_takes_little_memory(axes: list[Axes], tmp_path: Path) -> None:
    def make() -> tuple[Plan, Schedule]:
        plan = build_plan(axes, DataSources(tmp_path), "cpu")
        return plan, build_schedule(plan, Store(tmp_path / "store"), "none", 512)

    (plan, schedule), size = peak_of(make)
    assert len(plan.cells) == ATTACKS * DEFENSES
    assert len(schedule.jobs) == ATTACKS * DEFENSES + ATTACKS + DEFENSES
    assert size < 1100


def test_a_board_takes_little_memory_beside_its_results(axes: list[Axes], tmp_path: Path) -> None:
    plan = build_plan(axes, DataSources(tmp_path), "cpu")
    told = [
        {
            **cell.specs(),
            "key": cell.key,
            "short": {"dataset": "a", "model": "b", "attack": "fgsm", "defense": cell.specs()["defense"]},
            "attack_kind": "budget",
            "budget": {"norm": "linf", "eps": 0.1},
            "norm": "linf",
            "stochastic": False,
            "skipped": "",
            "failed": "",
            "n": 4,
        }
        for cell in plan.cells
    ]
    threats = {"oblivious": {"meaning": "", "caveat": "", "how": ""}}
    manifest = {"cells": told, "samples": {told[0]["dataset"]: [1, 2, 3, 4]}, "threats": threats}
    stored = {
        one["key"]: Summary(tuple(cell.specs().values()), "ok", "", 4, MEASURED, (8,))
        for one, cell in zip(told, plan.cells, strict=True)
    }
    results = build_results(manifest, stored)

    def make() -> list[Board]:
        return make_boards(results)

    (board,), size = peak_of(make)
    assert len(board.rows) == DEFENSES
    assert size < 700
