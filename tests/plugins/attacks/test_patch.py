"""The adversarial patch: where it lies, what it covers, and what it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from advbench.api import Crafted, DataSources, FitData, Goal, ParameterError, SampleRandom
from advbench_attacks.patch.adversarial_patch import AdversarialPatch
from advbench_attacks.patch.pasting import draw_placement, paste, patch_width
from advbench_datasets.mnist_5k import Mnist5k
from advbench_models.mnist_cnn import MnistCnn

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


class OneCorner(torch.nn.Module):
    """Class 1 if the mean of the 3×3 pixels in the upper left corner is above a half; sees nothing else."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images[:, :, :3, :3].mean(dim=(1, 2, 3))
        return torch.stack((0 * brightness, 20 * (brightness - 0.5)), dim=1)


def fitted(attack: AdversarialPatch, model: torch.nn.Module, images: torch.Tensor, goal: Goal) -> dict[str, Any]:
    data = FitData(lambda places: images[places].clone(), goal.labels, torch.arange(len(images)))
    return dict(attack.fit(model, data, goal, SampleRandom(0, "fit", range(len(images)))))


def crafted(
    attack: AdversarialPatch, model: torch.nn.Module, images: torch.Tensor, goal: Goal, artefact: dict[str, Any]
) -> Crafted:
    return attack.craft(model, images, goal, SampleRandom(0, "attack", range(1000, 1000 + len(images))), artefact)


@pytest.mark.parametrize("goal", ["untargeted", "1"])
def test_on_a_model_that_sees_one_corner_a_patch_succeeds_there_and_nowhere_else(goal: str) -> None:
    model, images = OneCorner(), torch.zeros(40, 1, 12, 12)
    labels = torch.zeros(40, dtype=torch.int64)
    wanted = Goal(labels, None if goal == "untargeted" else torch.ones_like(labels))
    for position in CORNERS:
        attack = AdversarialPatch(area=0.07, position=position, max_angle=0, steps=20, batch=8, goal=goal)
        result = crafted(attack, model, images, wanted, fitted(attack, model, images, wanted))
        assert bool(wanted.reached(model(result.images)).all()) == (position == "top-left")
    attack = AdversarialPatch(area=0.07, max_angle=0, min_scale=1, steps=60, batch=8, goal=goal)
    result = crafted(attack, model, images, wanted, fitted(attack, model, images, wanted))
    covered = result.notes["mask"][:, :, :3, :3].float().mean(dim=(1, 2, 3))
    assert torch.equal(wanted.reached(model(result.images)), covered > 0.5)


def test_on_a_real_model_the_patch_does_far_better_than_a_random_one_of_its_size() -> None:
    data, model = Mnist5k().load(DataSources(cache_dir=None)), MnistCnn().load().eval()  # type: ignore[arg-type]
    images, labels = data.take(data.ids[:600].tolist())
    images, labels = images[labels != 3], labels[labels != 3]
    goal = Goal(labels, torch.full_like(labels, 3))
    attack = AdversarialPatch(area=0.2, steps=80, goal="3")
    artefact = fitted(attack, model, images[:300], goal[:300])
    noise = torch.rand(artefact["patch"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rates = [
            float(
                goal[300:].reached(model(crafted(attack, model, images[300:], goal[300:], one).images)).float().mean()
            )
            for one in (artefact, {**artefact, "patch": noise})
        ]
    assert rates[0] > 0.12
    assert rates[0] > 5 * rates[1]


def test_a_patch_that_is_not_rotated_covers_whole_pixels_with_its_own() -> None:
    images, patch = torch.zeros(50, 3, 9, 11), torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.01
    rng = SampleRandom(0, "attack", range(50))
    placement = draw_placement(rng, (9, 11), 4, position="random", max_angle=0, min_scale=1)
    pasted, mask = paste(images, patch, placement, "square", 16 / 99)
    assert set(placement.x.tolist()) == {2 + x for x in range(8)}  # every place at which it is inside
    assert set(placement.y.tolist()) == {2 + y for y in range(6)}
    for image, region in zip(pasted, mask, strict=True):
        assert int(region.sum()) == 16
        torch.testing.assert_close(image[:, region[0]].reshape(3, 4, 4), patch)
        assert not image[:, ~region[0]].any()


@pytest.mark.parametrize("shape", ["square", "circle"])
@pytest.mark.parametrize("area", [0.05, 0.1, 0.3, 0.7])
def test_whatever_its_rotation_a_patch_covers_about_its_area_and_never_more(shape: str, area: float) -> None:
    side = patch_width(area, shape, 28, 28)
    placement = draw_placement(
        SampleRandom(0, "attack", range(300)), (28, 28), side, position="random", max_angle=45, min_scale=1
    )
    _, mask = paste(torch.zeros(300, 1, 28, 28), torch.ones(1, side, side), placement, shape, area)
    shares = mask.flatten(1).float().mean(dim=1)
    assert float(shares.max()) <= area
    assert float(shares.mean()) > 0.75 * area


def test_a_result_depends_on_its_sample_alone() -> None:
    model, images, goal = OneCorner(), torch.rand(6, 1, 12, 12), Goal(torch.zeros(6, dtype=torch.int64))
    attack, artefact = AdversarialPatch(steps=1), {"patch": torch.rand(1, 3, 3), "shape": "square"}
    whole = crafted(attack, model, images, goal, artefact)
    rng = SampleRandom(0, "attack", [1004, 1001])
    part = attack.craft(model, images[[4, 1]], goal[torch.tensor([4, 1])], rng, artefact)
    assert torch.equal(part.images, whole.images[[4, 1]])
    assert torch.equal(part.notes["mask"], whole.notes["mask"][[4, 1]])


@pytest.mark.parametrize(
    ("parameters", "size", "message"),
    [
        ({"area": 0.8}, (1, 10, 40), "area=0.8: a side of 17 pixels does not fit into 10×40 pixels; give less"),
        ({"area": 0.9, "shape": "circle"}, (1, 28, 28), "area=0.9: a diameter of 29 pixels does not fit into 28×28"),
        ({"area": 0.001}, (1, 28, 28), "area=0.001 of 28×28 pixels is less than one pixel; give more"),
        ({"goal": "12"}, (1, 28, 28), "goal=12: there are only the classes 0 to 9"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(
    parameters: dict[str, Any], size: tuple[int, int, int], message: str
) -> None:
    assert message in AdversarialPatch(**parameters).misfit(size, 10)
    assert not AdversarialPatch(area=1).misfit((1, 28, 28), 10)


@pytest.mark.parametrize("change", [{"area": 0.2}, {"shape": "circle"}])
def test_an_artefact_of_another_patch_is_refused(change: dict[str, Any]) -> None:
    model, images, goal = OneCorner(), torch.rand(2, 1, 12, 12), Goal(torch.zeros(2, dtype=torch.int64))
    artefact = {"patch": torch.rand(1, 3, 3), "shape": "square"}
    with pytest.raises(ParameterError, match="give the area and the shape with which it was fitted"):
        crafted(AdversarialPatch(**change), model, images, goal, artefact)
