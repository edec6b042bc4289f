"""Resizing, cropping and normalising inside the network does what libraries do to pictures before it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.plugins.models.folders import photograph, pixels
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from advbench.api import UsageError
from advbench_models.pretrained.geometry import Geometry
from advbench_models.pretrained.preprocessing import Preprocessed, Preprocessing, measured

pytestmark = pytest.mark.slow

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(224, 224), (256, 256), (300, 261), (100, 150), (32, 32)]


def pipeline(
    resize: Any = 64, crop: Any = 56, mode: InterpolationMode = InterpolationMode.BICUBIC
) -> transforms.Compose:
    steps = [transforms.Resize(resize, mode), transforms.CenterCrop(crop), transforms.ToTensor()]
    return transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_tensor_is_resized_as_torchvision_does(size: tuple[int, int], mode: str) -> None:
    images = pixels(photograph(*size)) * 0.6 + 0.2  # bicubic overshoots, which torchvision does not clip
    resized = vision.resize(images, [64], InterpolationMode(mode), antialias=True)
    expected = vision.center_crop(resized, [56, 56])
    assert torch.allclose(Geometry(64, (56, 56), mode)(images), expected, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_resized_as_pillow_does_up_to_its_rounding(size: tuple[int, int]) -> None:
    picture = photograph(*size).point(lambda level: level // 2 + 64)  # Pillow clips between its two passes
    expected = pixels(vision.center_crop(vision.resize(picture, [64], InterpolationMode.BICUBIC), [56, 56]))
    assert (Geometry(64, (56, 56))(pixels(picture)) - expected).abs().max() < 1.1 / 255


def test_small_images_are_padded_and_sides_can_have_other_sizes() -> None:
    images = torch.rand(1, 3, 7, 9)
    assert torch.equal(Geometry(None, (12, 12))(images), vision.center_crop(images, [12, 12]))
    assert Geometry((20, 30), None)(images).shape == (1, 3, 20, 30)
    assert Geometry((20, 30), None).size == (20, 30)
    assert Geometry(20, None).size is None


def test_the_normalisation_is_found_and_the_gradient_reaches_the_image() -> None:
    found = measured(pipeline(), Geometry(64, (56, 56)), "x")
    assert found.mean == pytest.approx(MEAN, abs=1e-6)
    assert found.std == pytest.approx(STD, abs=1e-6)
    assert found.order == (0, 1, 2)
    images = pixels(photograph(90, 70)).requires_grad_()
    network = Preprocessed(torch.nn.Identity(), found)
    network(images).sum().backward()
    assert images.grad is not None
    inside = images.grad.abs().sum(dim=1)[0]
    assert float(inside[35, 45]) > 0
    assert float(inside[35, 2]) == 0  # the crop leaves it out


def test_swapped_channels_are_found() -> None:
    swapped = transforms.Compose([pipeline(), lambda values: values[[2, 1, 0]]])
    found = measured(swapped, Geometry(64, (56, 56)), "x")
    assert found.order == (2, 1, 0)
    assert found.mean == pytest.approx(MEAN[::-1], abs=1e-6)
    picture = photograph(64, 64)
    with torch.no_grad():
        logits = Preprocessed(torch.nn.Identity(), found)(pixels(picture))
    assert torch.allclose(logits[0], swapped(picture), atol=1e-5)


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry(63, (56, 56)),
        Geometry(64, (55, 55)),
        Geometry((64, 64), (56, 56)),
        Geometry(64, (56, 56), rounds=False),
        Geometry(64, (56, 56), "nearest"),
    ],
)
def test_another_geometry_is_refused(geometry: Geometry) -> None:
    with pytest.raises(UsageError, match="cannot be made a part of the network"):
        measured(pipeline(), geometry, "model 'x'")


def test_what_is_no_normalisation_of_channels_is_refused() -> None:
    grey = transforms.Compose([transforms.Grayscale(3), pipeline()])
    with pytest.raises(UsageError, match="cannot be made a part of the network"):
        measured(grey, Geometry(64, (56, 56)), "model 'x'")
    with pytest.raises(UsageError, match="filter lanczos"):
        measured(pipeline(), Geometry(64, (56, 56), "lanczos"), "model 'x'")


def test_images_of_the_networks_size_are_resized_only_if_asked() -> None:
    preprocessing = Preprocessing(Geometry(64, (56, 56)), (0.0,) * 3, (1.0,) * 3)
    images = torch.rand(2, 3, 56, 56)
    whole = torch.nn.Identity()
    assert torch.equal(Preprocessed(whole, preprocessing)(images), images)
    assert not torch.equal(Preprocessed(whole, preprocessing, "always")(images), images)
    assert Preprocessed(whole, preprocessing, "never")(torch.rand(2, 3, 70, 60)).shape == (2, 3, 70, 60)
    assert Preprocessed(whole, preprocessing)(torch.rand(2, 3, 70, 60)).shape == (2, 3, 56, 56)


def test_grey_images_become_colour_and_colour_becomes_grey() -> None:
    whole = torch.nn.Identity()
    colour = Preprocessed(whole, Preprocessing(Geometry(None, None), (0.0,) * 3, (1.0,) * 3))
    grey = Preprocessed(whole, Preprocessing(Geometry(None, None), (0.0,), (1.0,), (0,)))
    assert torch.equal(colour(torch.full((1, 1, 2, 2), 0.3)), torch.full((1, 3, 2, 2), 0.3))
    picture = photograph(20, 20)
    assert (grey(pixels(picture)) - pixels(picture.convert("L"))).abs().max() <= 0.6 / 255
