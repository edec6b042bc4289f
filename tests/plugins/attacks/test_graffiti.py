"""Graffiti: which pixels change, and that they become the best ones."""

from __future__ import annotations

import pytest
import torch

from advbench.api import Crafted, Goal, SampleRandom
from advbench_attacks.patch.graffiti import Graffiti
from advbench_attacks.patch.masks import MASKS, make_mask

BATCH = 4


class Linear(torch.nn.Module):
    """Two classes whose logits are linear in the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.randn(2, 3 * 12 * 16, generator=torch.Generator().manual_seed(0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.weights.T


def crafted(attack: Graffiti, model: torch.nn.Module, images: torch.Tensor, goal: Goal, first: int = 0) -> Crafted:
    return attack.craft(model, images, goal, SampleRandom(0, "attack", range(first, first + len(images))))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("targeted", [False, True])
def test_on_a_linear_model_the_result_is_the_optimum_in_closed_form(mask: str, *, targeted: bool) -> None:
    model, images = Linear(), torch.rand(BATCH, 3, 12, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(BATCH, dtype=torch.int64)
    goal = Goal(labels, labels + 1 if targeted else None)
    result = crafted(Graffiti(area=0.2, shape=mask), model, images, goal)
    covered = make_mask(mask, 0.2, 12, 16)
    assert torch.equal(result.notes["mask"], covered.expand(BATCH, 1, -1, -1))
    slope = (model.weights[1] - model.weights[0]).reshape(3, 12, 16)
    assert torch.equal(result.images, torch.where(covered, (slope > 0).float(), images))


def test_a_model_that_sees_no_pixel_of_the_mask_is_not_fooled() -> None:
    images, goal = torch.rand(BATCH, 1, 14, 14), Goal(torch.zeros(BATCH, dtype=torch.int64))
    for mask in MASKS:
        covered = make_mask(mask, 0.1, 14, 14)
        for seen, fooled in ((covered, True), (~covered, False)):

            def model(points: torch.Tensor, seen: torch.Tensor = seen) -> torch.Tensor:
                brightness = points[:, 0, seen].mean(dim=1)
                return torch.stack((torch.full_like(brightness, 0.75) + 0 * brightness, brightness), dim=1)

            result = crafted(Graffiti(shape=mask), model, images, goal)  # type: ignore[arg-type]
            assert goal.reached(model(result.images)).tolist() == [fooled] * BATCH


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("height", "width"), [(28, 28), (32, 32), (11, 40)])
def test_masks_cover_their_area_and_grow_with_it(mask: str, height: int, width: int) -> None:
    smaller = torch.zeros(height, width, dtype=torch.bool)
    for area in (0.02, 0.05, 0.1, 0.3, 1.0):
        larger = make_mask(mask, area, height, width)
        assert int(larger.sum()) == int(area * height * width + 1e-6)
        assert not (smaller & ~larger).any()
        smaller = larger


def test_a_result_depends_on_its_sample_alone() -> None:
    model, images = Linear(), torch.rand(BATCH, 3, 12, 16)
    goal = Goal(torch.zeros(BATCH, dtype=torch.int64))
    whole = crafted(Graffiti(steps=3), model, images, goal).images
    alone = [crafted(Graffiti(steps=3), model, images[row : row + 1], goal[[row]], row).images for row in range(BATCH)]
    torch.testing.assert_close(torch.cat(alone), whole, rtol=0, atol=1e-6)


def test_behind_a_stochastic_classifier_the_last_point_counts() -> None:
    class Noisy(Linear):
        stochastic = True

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            lucky = torch.tensor([0.0, 1e6]) * (torch.rand(1, generator=generator) < 0.2)
            return super().forward(images) + lucky

    model, images, generator = Noisy(), torch.rand(BATCH, 3, 12, 16), torch.Generator().manual_seed(0)
    result = crafted(Graffiti(), model, images, Goal(torch.zeros(BATCH, dtype=torch.int64)))
    slope = (model.weights[1] - model.weights[0]).reshape(3, 12, 16)
    assert torch.equal(result.images, torch.where(make_mask("graffiti", 0.1, 12, 16), (slope > 0).float(), images))


def test_less_than_a_pixel_is_refused() -> None:
    message = "area=0.001 of 28×28 pixels is less than one pixel; give more"
    assert Graffiti(area=0.001).misfit((1, 28, 28), 10) == message
    assert Graffiti(goal="12").misfit((1, 28, 28), 10) == "goal=12: there are only the classes 0 to 9"
    assert not Graffiti(area=1).misfit((1, 28, 28), 10)
