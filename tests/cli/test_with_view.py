"""``with-view``: an attack that sees defenses with its own number of draws, or through some of their approximations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

TWO = Path(__file__).parents[1] / "evaluation" / "work" / "approximations_plugin.py"
MINE = """
from advbench.api import hookimpl
from advbench_attacks.combined.with_view import WithView
from advbench_attacks.combined.worst_of import WorstOf
from advbench_attacks.patch.adversarial_patch import AdversarialPatch

@hookimpl
def register_attacks(register):
    register(WithView)
    register(WorstOf)
    register(AdversarialPatch)
"""
Cells = dict[tuple[str, str, str], dict[str, Any]]


@pytest.fixture
def run(toy: Callable[..., tuple[Called, dict[str, Any]]], tmp_path: Path) -> Callable[..., tuple[Called, Cells]]:
    """Runs a matrix; returns the call, and its cells by attack, defense and threat."""
    (tmp_path / "mine.py").write_text(MINE)

    def matrix(*flags: object, **axes: Any) -> tuple[Called, Cells]:
        called, results = toy("--plugin", TWO, "--plugin", tmp_path / "mine.py", *flags, **axes)
        cells = {
            tuple(cell["short"][axis] for axis in ("attack", "defense")): cell for cell in results.get("cells", ())
        }
        assert len({cell["threat"] for cell in results.get("cells", ())}) <= 1
        return called, {(*key, cell["threat"]): cell for key, cell in cells.items()}  # type: ignore[misc]

    return matrix


def outcome(cell: dict[str, Any]) -> dict[str, Any]:
    names = ("robust_accuracy", "attack_success_rate", "median_l2", "median_linf", "queries", "budget", "goal")
    return {name: cell[name] for name in names}


def test_stand_ins_choose_among_a_defenses_approximations(run: Callable[..., tuple[Called, Cells]]) -> None:
    walk, threat = "walk:eps=0.1", "adaptive"
    views = {number: f'with-view:attack={walk},stand_ins="{number}"' for number in ("1", "2", "1 2")}
    called, cells = run(
        *("--threats", threat),
        attacks=[walk, *views.values()],
        defenses=["two", "two:use=left", "two:use=right"],
    )
    assert called.code == 0, called.err
    by_view = {key[0]: cell for key, cell in cells.items() if key[1] == "two"}
    shown = {
        number: next(cell for name, cell in by_view.items() if name.endswith(f"stand_ins={number}")) for number in views
    }
    left, right = (outcome(cells[walk, f"two:use={half}", threat]) for half in ("left", "right"))
    assert outcome(shown["1"]) == left
    assert outcome(shown["2"]) == right
    assert outcome(shown["1 2"]) == outcome(cells[walk, "two", threat])
    assert left != right != outcome(shown["1 2"])
    skipped = cells[next(name for name in by_view if name.endswith("stand_ins=2")), "two:use=left", threat]
    assert skipped["status"] == "skipped"
    assert "uses approximation 2, and defense 'two:use=left' has one approximation" in called.out


def test_draws_stand_for_eot_and_other_threats_are_those_of_the_attack(
    run: Callable[..., tuple[Called, Cells]],
) -> None:
    walk, view = "walk:eps=0.1", "with-view:attack=walk:eps=0.1,draws=5"
    axes = {"attacks": [walk, view], "defenses": ["toy-keep", "two:sigma=0.3"]}
    cells: Cells = {}
    for threat in ("oblivious", "adaptive"):
        called, of_threat = run("--threats", threat, "--eot", 2, **axes)
        assert called.code == 0, called.err
        cells |= of_threat
    _, five = run("--threats", "adaptive", "--eot", 5, **axes)
    for defense, threat in (("toy-keep", "oblivious"), ("two:sigma=0.3", "oblivious"), ("toy-keep", "adaptive")):
        assert outcome(cells[view, defense, threat]) == outcome(cells[walk, defense, threat])
    adaptive = cells[view, "two:sigma=0.3", "adaptive"]
    assert outcome(adaptive) == outcome(five[walk, "two:sigma=0.3", "adaptive"])
    assert outcome(adaptive) != outcome(cells[walk, "two:sigma=0.3", "adaptive"])


def test_a_fitted_attack_is_fitted_and_attacked_in_its_view(run: Callable[..., tuple[Called, Cells]]) -> None:
    patch = "patch:area=0.25,steps=2,max_angle=0"
    view = f'with-view:attack="{patch}",draws=2'
    called, cells = run(
        *("--threats", "adaptive", "--limit", 20, "--fit-samples", 20),
        attacks=[patch, view],
        defenses=["toy-dim"],
    )
    assert called.code == 0, called.err
    one, other = (cell for key, cell in sorted(cells.items()))
    assert one["robust_accuracy"] == other["robust_accuracy"]
    assert one["median_size"] == other["median_size"] > 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("with-view", "needs attack=…"),
        ('with-view:attack="walk | blind"', "attack: give one attack; worst-of combines several"),
        ("with-view:attack=walk,stand_ins=soft", "stand_ins=soft: must be numbers of approximations, from 1"),
        ("with-view:attack=walk,stand_ins=0", "stand_ins=0: must be numbers of approximations, from 1"),
        ('with-view:attack=walk,stand_ins="2 2"', "stand_ins=2 2: names an approximation twice; remove one"),
        ("with-view:attack=walk,draws=0", "draws=0: must be a whole number of at least 1"),
        ('with-view:attack="with-view:attack=walk"', "attack: with-view has a view already"),
        ('worst-of:of="walk | with-view:attack=walk"', "of: with-view changes the view"),
    ],
)
def test_a_view_that_makes_no_sense_is_a_usage_error(
    run: Callable[..., tuple[Called, Cells]], spec: str, message: str
) -> None:
    called, _ = run(attacks=[spec], defenses=["two"])
    assert called.code == 2
    assert message in called.error_line()


STAIRS = """
from dataclasses import dataclass

from advbench.api import Defense, hookimpl


@dataclass(frozen=True)
class Stairs(Defense):
    'Rounds; the second approximation has no gradient.'

    name = "stairs"

    def apply(self, images, rng):
        return (images * 8).round() / 8

    def approximations(self):
        return (lambda images, output, rng: images, lambda images, output, rng: images * 0)


@hookimpl
def register_defenses(register):
    register(Stairs)
"""


def test_a_gradient_of_zero_is_that_of_the_approximation(call: Callable[..., Called], tmp_path: Path) -> None:
    plugin, target, pgd = tmp_path / "stairs.py", tmp_path / "results.json", "pgd:eps=0.2,steps=2"
    plugin.write_text(STAIRS)
    views = [f'with-view:attack="{pgd}",stand_ins={number}' for number in (1, 2)]
    called = call(
        *("matrix", "--datasets", "mnist-20", "--models", "mnist-cnn", "--limit", 3, "--threats", "adaptive"),
        *("--attacks", *views, pgd, "--defenses", "stairs", "--plugin", plugin),
        *("--store", tmp_path / "store", "--export", target),
    )
    assert called.code == 0, called.err
    results = json.loads(target.read_text())
    (finding,) = (one for one in results["findings"] if one["criterion"] == "zero-gradients")
    assert finding["cells"] == [1]
    assert "(stairs, adaptive, approximation 2 alone)" in finding["message"]
