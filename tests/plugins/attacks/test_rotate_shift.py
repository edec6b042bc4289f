"""The rotate-shift attack against an exhaustive search by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.plugins.attacks.classifiers import Noisy

from advbench.api import Crafted, Goal, ParameterError, SampleRandom, rotate_shift
from advbench.contracts.attacks import check_adversarial
from advbench.specs import full_spec
from advbench_attacks.geometric.rotate_shift import RotateShift

COUNT = 6
IMAGES = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(2))


class Quadratic(torch.nn.Module):
    """Five logits quadratic in the pixels; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weights, self.curves = (torch.randn(5, 64, generator=generator) for _ in range(2))
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        flat = images.flatten(1) - 0.5
        return flat @ self.weights.T + flat.square() @ self.curves.T


def crafted(attack: RotateShift, model: torch.nn.Module, goal: Goal, rows: slice = slice(None)) -> Crafted:
    rng = SampleRandom(0, "attack", range(COUNT)[rows])
    returned = attack.craft(model, IMAGES[rows].clone(), goal[rows], rng)
    assert isinstance(returned, Crafted)
    check_adversarial(attack, IMAGES[rows], returned.images, returned.notes)
    return returned


@pytest.mark.parametrize("targeted", [False, True])
def test_it_finds_the_exact_worst_of_its_grid(targeted: bool) -> None:
    model = Quadratic()
    labels = model(IMAGES).argmax(dim=1)
    goal = Goal(labels, (labels + 2) % 5 if targeted else None)
    attack = RotateShift(max_angle=40, max_shift=2, angles=5, shifts=3)
    expected = torch.full((COUNT,), -torch.inf)
    for angle, dx, dy in itertools.product((-40, -20, 0, 20, 40), (-2, 0, 2), (-2, 0, 2)):
        motion = (torch.full((COUNT,), float(value)) for value in (angle, dx, dy))
        expected = expected.maximum(goal.margin(model(rotate_shift(IMAGES, *motion))))
    model.batches.clear()
    images, notes = crafted(attack, model, goal)
    assert model.batches == [COUNT] * 45  # every point once, in batches as large as the given one
    assert torch.equal(goal.margin(model(images)), expected)
    assert (expected > goal.margin(model(IMAGES))).all()
    assert {float(value) for value in notes["angle"]} <= {-40, -20, 0, 20, 40}
    assert goal.reached(model(images)).any()
    alone = crafted(attack, model, goal, slice(2, 3))
    assert torch.equal(alone.images[0], images[2])


def test_early_stop_fools_the_same_samples_with_fewer_queries() -> None:
    model = Quadratic()
    goal = Goal(model(IMAGES).argmax(dim=1))
    model.batches.clear()
    worst = crafted(RotateShift(angles=9, shifts=3), model, goal).images
    of_all = sum(model.batches)
    model.batches.clear()
    first = crafted(RotateShift(angles=9, shifts=3, early_stop=True), model, goal).images
    assert sum(model.batches) < of_all
    fooled = model(worst).argmax(dim=1) != goal.labels
    assert fooled.any()
    assert torch.equal(model(first).argmax(dim=1) != goal.labels, fooled)
    assert torch.equal(first[~fooled], worst[~fooled])


def test_a_classifier_that_ignores_motion_gets_the_clean_images() -> None:
    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(images), -1)

    images, notes = crafted(RotateShift(angles=3, shifts=3), Mean(), Goal(torch.zeros(COUNT, dtype=torch.int64)))
    assert torch.equal(images, IMAGES)
    assert not any(notes[name].any() for name in ("angle", "dx", "dy"))


def test_a_stochastic_classifier_gets_all_rows_of_the_batch() -> None:
    model = Noisy(Quadratic(), SampleRandom(1, "noise", range(COUNT)))
    for early_stop in (False, True):
        crafted(
            RotateShift(angles=3, shifts=1, early_stop=early_stop), model, Goal(torch.zeros(COUNT, dtype=torch.int64))
        )


def test_a_grid_of_one_point_is_the_identity_and_even_grids_leave_it_out() -> None:
    model = Quadratic()
    goal = Goal(model(IMAGES).argmax(dim=1))
    assert torch.equal(crafted(RotateShift(angles=1, shifts=1), model, goal).images, IMAGES)
    angles = crafted(RotateShift(max_angle=10, angles=2, shifts=1), model, goal).notes["angle"]
    assert set(angles.abs().tolist()) == {10}
    model.batches.clear()
    crafted(RotateShift(max_angle=0, angles=31, max_shift=1, shifts=3), model, goal)
    assert len(model.batches) == 9  # equal points are evaluated once


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_angle": -1}, "max_angle=-1"),
        ({"max_angle": 200}, "max_angle=200"),
        ({"max_shift": -0.5}, "max_shift=-0.5"),
        ({"angles": 0}, "angles=0"),
        ({"shifts": 0}, "shifts=0"),
        ({"padding": "wrap"}, "padding='?wrap"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        RotateShift(**parameters)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_shifts_that_leave_nothing_of_the_image_are_refused() -> None:
    assert RotateShift(max_shift=28).misfit((1, 28, 30), 10) == (
        "max_shift=28 moves images of 28×30 pixels out of view; give less"
    )
    assert not RotateShift(max_shift=27).misfit((1, 28, 30), 10)


def test_the_spec_names_all_parameters() -> None:
    assert full_spec(RotateShift()) == (
        "rotate-shift:max_angle=30,max_shift=3,angles=31,shifts=5,interpolation=bilinear,padding=zeros,early_stop=false,"
        "goal=untargeted"
    )
