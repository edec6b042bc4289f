"""Perturbation sets: sizes, violations, and what attacks may declare."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from advbench.api import (
    Attack,
    Budget,
    ContractError,
    Corruption,
    Geometric,
    LpBall,
    ParameterError,
    Patch,
    PerturbationSet,
    Unrestricted,
    rotate_shift,
)
from advbench.contracts.attacks import check_adversarial, check_notes, check_sizes, notes_unattacked
from advbench.contracts.budgets import check_perturbation, is_minimal

CLEAN = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(3))


def declares(
    perturbation: Any = None, *, norm: Any = None, budget: Budget | None = None, uses: Any = "nothing"
) -> Attack:
    """An attack with any perturbation set."""

    @dataclasses.dataclass(frozen=True)
    class Declares(Attack):
        name = "declares"
        access = uses

        def perturbation(self) -> PerturbationSet:
            return super().perturbation() if perturbation is None else perturbation

        def budget(self) -> Budget | None:
            return budget

        def minimized_norm(self) -> Any:
            return norm

    return Declares()


def patched(area_of_each: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(4, 1, 6, 8, dtype=torch.bool)
    mask.flatten(1)[:, :area_of_each] = True
    return torch.where(mask, 1.0, CLEAN), mask


def moved(angle: float, dx: float, dy: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    notes = {
        name: torch.full((4,), value, dtype=torch.float64) for name, value in (("angle", angle), ("dx", dx), ("dy", dy))
    }
    return rotate_shift(CLEAN, notes["angle"], notes["dx"], notes["dy"]), notes


@pytest.mark.parametrize(
    ("norm", "value", "inside", "outside"), [("l0", 4.0, 4, 5), ("l0-pixels", 2.0, 2, 3), ("l1", 1.0, 0.99, 1.01)]
)
def test_norms_count_values_and_pixels(norm: Any, value: float, inside: float, outside: float) -> None:
    ball = LpBall(norm, value)
    for amount, holds in ((inside, True), (outside, False)):
        other = CLEAN.clone()
        if norm == "l1":
            other[:, 0, 0, 0] = CLEAN[:, 0, 0, 0] + amount
        elif norm == "l0":
            other.flatten(1)[:, : int(amount)] = 2
        else:
            other[:, :, 0, : int(amount)] = 2  # all channels of a pixel count once
        assert (ball.holds(CLEAN, other) == holds).all()
        assert ball.sizes(CLEAN, other, {})[norm] == pytest.approx(amount, rel=1e-5)
        assert set(ball.violations(CLEAN, other, {})) == (set() if holds else {0, 1, 2, 3})


def test_labels_and_sizes() -> None:
    assert LpBall("linf", 8 / 255).label() == "L∞ ≤ 8/255"
    assert (LpBall("l2").label(), LpBall(None).label(), LpBall("l0-pixels", 5).label()) == (
        "L2",
        "unbounded",
        "L0 (pixels) ≤ 5",
    )
    assert (Patch(0.05).label(), Geometric(30, 3).label(), Corruption(4).label()) == (
        "area ≤ 5 %",
        "±30°, ±3 px",
        "severity 4",
    )
    images, mask = patched(12)
    assert torch.equal(Patch(0.25).sizes(CLEAN, images, {"mask": mask})["area"], torch.full((4,), 0.25).double())
    images, notes = moved(-10, 1, -2.5)
    sizes = Geometric(30, 3).sizes(CLEAN, images, notes)
    assert (list(sizes), sizes["angle"].tolist(), sizes["shift"].tolist()) == (["angle", "shift"], [10] * 4, [2.5] * 4)
    assert list(Geometric(0, 3).sizes(CLEAN, images, notes)) == [Geometric(0, 3).main_size()] == ["shift"]
    levels = (CLEAN * 255).round() / 255
    assert Corruption(1).sizes(levels, (levels * 255 + 3) / 255, {})["rms"] == pytest.approx(3 / 255, rel=1e-4)
    assert Unrestricted().holds(CLEAN, 1 - CLEAN).all()


def test_images_inside_their_sets_pass() -> None:
    images, mask = patched(12)
    check_adversarial(declares(Patch(0.25)), CLEAN, images, {"mask": mask})
    images, notes = moved(30, 3, -3)
    check_adversarial(declares(Geometric(30, 3)), CLEAN, images, notes)
    check_adversarial(declares(Geometric(30, 3)), CLEAN, images + 9e-5 * (images < 0.5), notes)
    check_adversarial(declares(Corruption(3)), CLEAN, (CLEAN * 255).round() / 255)
    check_adversarial(declares(Unrestricted()), CLEAN, 1 - CLEAN)
    check_adversarial(declares(norm="l2"), CLEAN, 1 - CLEAN)


def outside_the_sets() -> dict[str, tuple[PerturbationSet, torch.Tensor, dict[str, torch.Tensor], str]]:
    images, mask = patched(12)
    beyond = images.clone()
    beyond[2, 1, 5, 7] += 0.25 if beyond[2, 1, 5, 7] < 0.5 else -0.25
    turned, notes = moved(20, 1, 0)
    wrong = turned.clone()
    wrong[2, 0, 2, 2] = (wrong[2, 0, 2, 2] + 0.5) % 1
    level = (CLEAN * 255).round() / 255
    between = level.clone()
    between[2, 0, 0, 0] = 0.5 / 255
    return {
        "large": (Patch(0.2), images, {"mask": mask}, r"0 \(and 3 more\): its mask covers 25 % of the image"),
        "outside": (Patch(0.5), beyond, {"mask": mask}, "102: 1 pixel changed outside its mask, which covers 25 %"),
        "angle": (Geometric(15, 3), turned, notes, r"rotated by 20° and shifted by \(1, 0\) px$"),
        "shift": (Geometric(30, 0.5), turned, notes, r"rotated by 20° and shifted by \(1, 0\) px$"),
        "rendered": (Geometric(30, 3), wrong, notes, "102: .* its pixels differ by up to 0.5 from the rendered image"),
        "padding": (Geometric(30, 3, padding="border"), turned, notes, "differ by up to"),
        "levels": (Corruption(2), between, {}, "102: a value is 0.5 of a level away from the 256 levels of 8 bits"),
    }


@pytest.mark.parametrize("case", outside_the_sets())
def test_an_image_outside_names_attack_set_sample_and_size_in_one_line(case: str) -> None:
    perturbation, images, notes, reason = outside_the_sets()[case]
    with pytest.raises(ContractError, match=reason) as caught:
        check_adversarial(declares(perturbation), CLEAN, images, notes, [100, 101, 102, 103])
    assert str(caught.value).startswith(f"attack 'declares', {perturbation.kind} {perturbation.label()}, sample 10")
    assert "\n" not in str(caught.value)


MASK = torch.zeros(4, 1, 6, 8, dtype=torch.bool)


@pytest.mark.parametrize(
    ("perturbation", "notes", "message"),
    [
        (
            Patch(),
            {},
            r"attack 'declares', patch area ≤ 100 %: returned no note 'mask'; return Crafted\(images, notes\)",
        ),
        (Patch(), {"mask": MASK.float()}, r"invalid note 'mask'; expected a bool tensor of shape \(4, 1, 6, 8\)"),
        (Patch(), {"mask": MASK.expand(-1, 3, -1, -1)}, "invalid note 'mask'"),
        (Patch(), {"mask": MASK[:3]}, "invalid note 'mask'"),
        (Patch(), {"mask": MASK.numpy()}, "invalid note 'mask'"),
        (Geometric(1, 1), {"angle": torch.zeros(4), "dx": torch.zeros(4)}, "no note 'dy'"),
        (Geometric(1, 1), dict.fromkeys(("angle", "dx", "dy"), torch.zeros(4, dtype=torch.int64)), "note 'angle'"),
        (Geometric(1, 1), dict.fromkeys(("angle", "dx", "dy"), torch.full((4,), math.nan)), "finite floating-point"),
        (Geometric(1, 1), dict.fromkeys(("angle", "dx", "dy"), torch.zeros(4, 1)), r"numbers of shape \(4,\)"),
    ],
)
def test_notes_that_a_set_needs_are_checked(perturbation: PerturbationSet, notes: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_notes(declares(perturbation), CLEAN, notes)


def test_samples_that_are_not_attacked_are_inside_every_set() -> None:
    for perturbation in (Patch(0.1), Geometric(30, 3), Unrestricted()):
        attack = declares(perturbation)
        notes = notes_unattacked(attack, CLEAN, {})
        assert tuple(notes) == perturbation.notes
        assert check_notes(attack, CLEAN, notes).keys() == notes.keys()
        check_adversarial(attack, CLEAN, CLEAN, notes)
        assert not next(iter(check_sizes(attack, CLEAN, CLEAN, notes).values())).any()


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (declares("patch"), "has the perturbation set 'patch'; expected one of advbench.api, such as Patch"),
        (declares(LpBall("l2", 1.0)), r"but budget\(\) and minimized_norm\(\) give .*; override these alone"),
        (declares(Patch(), budget=Budget("l2", 1.0)), "and the Lp ball 'L2 ≤ 1'; an attack has one set"),
        (declares(Patch(), norm="l2"), "and the Lp ball 'L2'; an attack has one set"),
        (declares(Corruption(1), uses="gradients"), "its access is 'gradients'; a corruption does not use the model"),
    ],
)
def test_sets_that_contradict_the_attack_are_refused(attack: Attack, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_perturbation(attack)


def test_the_kind_of_an_attack_follows_from_its_set() -> None:
    assert check_perturbation(declares(norm="l1")) == LpBall("l1")
    assert check_perturbation(declares(budget=Budget("linf", 0.1))) == LpBall("linf", 0.1)
    kinds = [
        is_minimal(attack) for attack in (declares(), declares(norm="l1"), declares(Patch()), declares(Corruption(1)))
    ]
    assert kinds == [True, True, False, False]
    assert not is_minimal(declares(budget=Budget("linf", 0.1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Patch(1.5), "a patch of 1.5 of the image's area; give more than 0 and at most 1"),
        (lambda: Patch(0), "a patch of 0 of the image's area"),
        (lambda: Geometric(-1, 3), "max_angle=-1 of a geometric perturbation; give a finite number from 0"),
        (lambda: Geometric(30, math.inf), "max_shift=inf"),
    ],
)
def test_bounds_that_make_no_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


def test_sizes_of_own_sets_are_checked() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd(Unrestricted):
        def sizes(self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Any) -> dict[str, torch.Tensor]:
            return {"l2": torch.zeros(len(clean))}

    @dataclasses.dataclass(frozen=True)
    class Other(Unrestricted):
        def main_size(self) -> str:
            return "colour"

    with pytest.raises(ContractError, match=r"sizes\(\) of Odd must return float64 tensors of shape \(4,\)"):
        check_sizes(declares(Odd()), CLEAN, CLEAN, {})
    with pytest.raises(ContractError, match=r"the first of sizes\(\) of Other must be main_size\(\), 'colour'"):
        check_sizes(declares(Other()), CLEAN, CLEAN, {})
