"""The distances that minimal attacks with a goal find on linear models, beside the solution of the exact program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from tests.plugins.attacks.test_linear_models import ORDERS, SHAPE, Planes

from advbench.api import Goal
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.half_spaces import step_into_half_spaces
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm

pytestmark = pytest.mark.slow

COUNT = 25
NORMS = ["linf", "l2", "l1"]
MINIMAL = {
    "linf": [ProjectedGradientDescent(search="minimal", steps=10), TargetedFab("linf"), FastMinimumNorm("linf")],
    "l2": [
        TargetedFab("l2"),
        FastMinimumNorm("l2"),
        DecoupledDirectionAndNorm(),
        CarliniWagnerL2(search_steps=3, steps=40),
    ],
    "l1": [FastMinimumNorm("l1")],
}


def smallest(image: np.ndarray, normals: np.ndarray, offsets: np.ndarray, norm: str) -> float:
    """The norm of the smallest step within [0, 1] with normals · step + offsets ≥ 0; infinite if there is none."""
    size, box = len(image), [(-value, 1 - value) for value in image]
    if norm == "l2":
        constraint = {"type": "ineq", "fun": lambda step: normals @ step + offsets, "jac": lambda step: normals}
        found = minimize(
            lambda step: step @ step, np.zeros(size), jac=lambda step: 2 * step, bounds=box, constraints=constraint,
            method="SLSQP", options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        return float(found.fun) ** 0.5 if found.success else math.inf
    if norm == "l1":
        box = [(0, high) for _, high in box] + [(0, -low) for low, _ in box]
        found = linprog(np.ones(2 * size), np.hstack((-normals, normals)), offsets, bounds=box)
    else:
        one, eye = np.ones((size, 1)), np.eye(size)
        rows = np.vstack((np.hstack((-normals, 0 * normals[:, :1])), np.hstack((eye, -one)), np.hstack((-eye, -one))))
        limits = np.concatenate((offsets, np.zeros(2 * size)))
        found = linprog(np.eye(size + 1)[-1], rows, limits, bounds=[*box, (0, None)])
    return float(found.fun) if found.status == 0 else math.inf


def distances(model: Planes, images: torch.Tensor, targets: torch.Tensor, norm: str) -> torch.Tensor:
    """The distance of each image to the region of its target class within [0, 1]."""
    weight, logits = model.weight.double(), model.exact_logits(images)
    found = []
    for image, row, target in zip(images, logits, targets, strict=True):
        others = torch.arange(len(weight)) != target
        normals, offsets = weight[target] - weight[others], row[target] - row[others]
        found.append(smallest(image.double().flatten().numpy(), normals.numpy(), offsets.numpy(), norm))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("bounds_bind", [False, True])
def test_minimal_attacks_find_the_distance_to_the_target(classes, norm, bounds_bind, streams):
    model = Planes(classes, 1.0, torch.float32).eval()
    images = model.samples()[0][:COUNT]
    if bounds_bind:
        images = torch.rand(images.shape, generator=torch.Generator().manual_seed(5)).mul(1.6).sub(0.3).clamp(0, 1)
    labels = model(images).argmax(dim=1)
    targets = (labels + 1 + torch.arange(len(labels)) % (classes - 1)) % classes
    exact = distances(model, images, targets, norm)
    reachable = exact.isfinite()
    assert reachable.sum() > 0.6 * len(images)
    for attack in MINIMAL[norm]:
        crafted = attack.craft(model, images, Goal(labels, targets), streams(range(len(images))))
        assert torch.equal(model(crafted).argmax(dim=1) == targets, reachable), attack
        ratio = (crafted - images).double().flatten(1).norm(p=ORDERS[norm], dim=1) / exact
        assert ((ratio - 1).abs() < 0.02)[reachable].all(), attack
        moved_to_a_bound = ((crafted - images).abs() > 0.01) & ((crafted < 1e-3) | (crafted > 1 - 1e-3))
        assert moved_to_a_bound.any() == bounds_bind, attack


@pytest.mark.parametrize("norm", NORMS)
def test_half_spaces_that_do_not_meet_are_approached_and_undefined_ones_are_left_out(norm):
    images = torch.full((4, *SHAPE), 0.5)
    normals = torch.randn(4, 2, *SHAPE, generator=torch.Generator().manual_seed(6))
    offsets = torch.full((4, 2), -0.1)
    normals[0, 1], offsets[0] = -normals[0, 0], torch.tensor([-0.1, -0.3])  # opposite: half-way is the least violation
    normals[1, 0, 0, 0, 0] = math.nan
    normals[2] = 0.0
    steps = step_into_half_spaces(images, normals, offsets, norm)
    assert ((images + steps >= 0) & (images + steps <= 1)).all()
    heights = torch.einsum("bmchw,bchw->bm", normals, steps)[0]
    torch.testing.assert_close(heights, torch.tensor([-0.1, 0.1]), atol=0.02, rtol=0)
    assert torch.equal(steps[1:3], torch.zeros(2, *SHAPE))
    assert (torch.einsum("bmchw,bchw->bm", normals, steps)[3] >= 0.1 - 1e-5).all()


def test_a_sample_inside_its_half_spaces_does_not_move():
    steps = step_into_half_spaces(torch.full((1, *SHAPE), 0.5), torch.ones(1, 3, *SHAPE), torch.zeros(1, 3), "l2")
    assert torch.equal(steps, torch.zeros(1, *SHAPE))
