"""Claim 21: what JPEG leaves misclassified has more pixels that the attack moved to 0 or 255."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.plugins.studies.paper_world import World

from advbench_studies.paper2019.moved_pixels import moved_to_bounds
from advbench_studies.paper2019.resampling import Outcomes


def test_a_pixel_counts_if_the_attack_moved_it_to_0_or_255_of_8_bits() -> None:
    clean = np.array([0.0, 1.0, 0.5, 0.5, 0.001, 0.3, 0.0, 1.0], dtype=np.float32).reshape(2, 1, 2, 2)
    moved = np.array([0.0, 1.0, 0.0, 0.999, 0.0, 0.31, 1.0, 0.99], dtype=np.float32).reshape(2, 1, 2, 2)
    assert moved_to_bounds(clean, moved).tolist() == [0.5, 0.25]


def judged(world: World) -> dict[str, Any]:
    claim = next(claim for claim in world.reproduction()["claims"] if claim["number"] == 21)
    verdict: dict[str, Any] = claim["minimal"]
    return verdict


def test_the_numbers_of_both_groups_are_said() -> None:
    verdict = judged(World())
    assert verdict["verdict"] == "holds"
    # JPEG keeps 98.5 % of 1,000 images against FGSM, in which the attack moved a quarter of the pixels.
    assert "FGSM 50.0 % in 15 left, 25.0 % in 985 recovered" in verdict["measured"][0]


@pytest.mark.parametrize(("left", "verdict"), [(5, "undecided"), (6, "holds")])
def test_five_images_decide_nothing(left: int, verdict: str) -> None:
    world = World()
    world.set("mnist", ("fgsm", "cw"), "jpeg", robust_accuracy=1 - left / 1000)
    assert judged(world)["verdict"] == verdict


@pytest.mark.parametrize(("difference", "verdict"), [(0.05, "holds"), (0.001, "undecided"), (-0.05, "fails")])
def test_a_difference_that_other_images_may_not_have_is_undecided(
    difference: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)

    def images(self: World, cell: dict[str, Any]) -> tuple[Any, Any]:
        """Images of 400 pixels, of which each attack moves about a fifth to 255, more or fewer where JPEG fails."""
        robust = self._outcomes(cell).robust
        share = 0.2 + generator.normal(0, 0.02, cell["n"]) + np.where(robust > 0, 0, difference)
        clean = np.full((cell["n"], 1, 20, 20), 0.5, dtype=np.float32)
        moved = np.arange(400).reshape(1, 1, 20, 20) < 400 * share.reshape(-1, 1, 1, 1)
        return clean, np.where(moved, np.float32(1), clean)

    monkeypatch.setattr(World, "_images", images)
    assert judged(World())["verdict"] == verdict


def test_images_that_are_no_longer_stored_are_a_missing_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "_images", lambda self, cell: None)
    verdict = judged(World())
    assert verdict["verdict"] == "not run"
    assert "adversarial images of FGSM on MNIST" in verdict["lacks"]


def test_images_that_do_not_fool_the_undefended_model_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcomes(cell: dict[str, Any]) -> Outcomes:
        """The first images are robust; the last ten, which JPEG leaves, do not fool the undefended model."""
        n, robust = cell["n"], cell["robust_accuracy"]
        l2 = np.where(np.arange(n) < n - 10, 1.0, np.nan)
        errors = np.zeros((n, 2), dtype=np.int64)
        return Outcomes("mnist", (np.arange(n) < round(robust * n)).astype(float), np.ones(n), l2, errors)

    world = World()
    monkeypatch.setattr(World, "_outcomes", staticmethod(outcomes))
    checks = judged(world)["measured"][0]
    assert "FGSM 5 left, 985 recovered" in checks
