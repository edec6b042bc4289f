"""``advbench matrix --seeds``: the same matrix several times, told by its mean and spread."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from tests.conftest import Called

Toy = Callable[..., tuple[Called, dict[str, Any]]]

AXES: dict[str, Any] = {"attacks": ["toy-sign:eps={0.1,0.2},jitter=true"], "defenses": ["toy-keep", "toy-noise"]}


def test_means_and_spreads_are_those_of_the_seeds_run_by_themselves(toy: Toy) -> None:
    alone = [toy("--limit", 20, "--seed", seed, **AXES)[1] for seed in (3, 4, 5)]
    called, together = toy("--limit", 20, "--seeds", 3, 4, 5, **AXES)
    assert called.code == 0
    assert "seed 5" in called.err
    assert called.err.count("come from the store") == 3
    for place, cell in enumerate(together["cells"]):
        values = [one["cells"][place]["robust_accuracy"] for one in alone]
        assert cell["robust_accuracy_seeds"]["values"] == values
        assert cell["robust_accuracy"] == pytest.approx(statistics.fmean(values))
        assert cell["robust_accuracy_seeds"]["std"] == pytest.approx(statistics.stdev(values))
        low, high = cell["robust_accuracy_ci95"]
        assert low <= cell["robust_accuracy"] <= high
    assert together["run"]["seeds"] == {str(one["run"]["seed"]): one["run"]["run"] for one in alone}
    for row in together["leaderboards"][0]["rows"]:
        worst = [
            next(other for other in one["leaderboards"][0]["rows"] if other["defense"] == row["defense"])["worst_case"]
            for one in alone
        ]
        assert row["worst_case"]["accuracy"] == pytest.approx(statistics.fmean(case["accuracy"] for case in worst))


def test_the_board_shows_mean_and_spread_and_the_command_the_seeds(toy: Toy) -> None:
    called, results = toy("--limit", 20, "--seeds", 0, 1, **AXES)
    cell = results["cells"][0]
    shown = f"{100 * cell['robust_accuracy']:.1f} ± {100 * cell['robust_accuracy_seeds']['std']:.1f}"
    assert shown in called.out
    assert "± is the standard deviation over seeds." in called.out
    assert "--seeds 0 1" in results["run"]["command"]


def test_one_seed_has_no_spread(toy: Toy) -> None:
    called, results = toy("--seeds", 2, **AXES)
    assert "robust_accuracy_seeds" not in results["cells"][0]
    assert "±" not in called.out
    assert results["run"]["seed"] == 2


def test_a_cell_that_fails_with_any_seed_has_failed(toy: Toy) -> None:
    called, results = toy("--seeds", 0, 1, defenses=["toy-keep", "toy-rogue-defense"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["ok", "error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "1", "1"], "--seeds: 1 is given twice; remove one"),
        (["--seeds", "1", "--seed", "2"], "--seed and --seeds: give one of them"),
        (["--seeds", "x"], "--seeds: x: must be a whole number of at least 0"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(toy: Toy, flags: list[str], message: str) -> None:
    called, _ = toy(*flags)
    assert called.code == 2
    assert re.search(re.escape(message), called.error_line())
