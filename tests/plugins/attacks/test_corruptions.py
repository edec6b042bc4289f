"""Common corruptions against their formulas, and against scipy and scikit-image."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.color import hsv2rgb, rgb2hsv

from advbench.api import Attack, Corruption, Goal, ParameterError, SampleRandom
from advbench.contracts.attacks import check_adversarial
from advbench_attacks import plugin
from advbench_attacks.corruptions.blur import DefocusBlur, GaussianBlur, GlassBlur, MotionBlur, ZoomBlur
from advbench_attacks.corruptions.corruption import CommonCorruption
from advbench_attacks.corruptions.digital import Contrast, ElasticTransform, JpegArtefacts, Pixelate, Saturate
from advbench_attacks.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from advbench_attacks.corruptions.plasma import plasma
from advbench_attacks.corruptions.weather import Brightness, Fog

COUNT = 6
COLOUR = torch.rand(COUNT, 3, 4, 4, generator=torch.Generator().manual_seed(1))
COLOUR = torch.nn.functional.interpolate(COLOUR, (32, 32), mode="bilinear", align_corners=False)
COLOUR = (COLOUR + torch.rand(COLOUR.shape, generator=torch.Generator().manual_seed(2))) / 2
COLOUR = (COLOUR * 255).round() / 255
GREY = (COLOUR[:, :1, :28, :28] * 255).round() / 255
LEVEL = 1 / 255


def registered() -> dict[str, type[CommonCorruption]]:
    found: list[type[Attack]] = []
    plugin.register_attacks(found.append)
    return {attack.name: attack for attack in found if issubclass(attack, CommonCorruption)}


def corrupted(attack: CommonCorruption, images: torch.Tensor, first: int = 0) -> torch.Tensor:
    rng = SampleRandom(3, "attack", range(first, first + len(images)))
    goal = Goal(torch.zeros(len(images), dtype=torch.int64))
    result = attack.craft(torch.nn.Identity(), images.clone(), goal, rng)
    return check_adversarial(attack, images, result)


def change(attack: CommonCorruption, value: float, side: int = 200) -> torch.Tensor:
    """By how much a corruption changes the values of a plain grey image."""
    return corrupted(attack, torch.full((1, 1, side, side), value)) - value


@pytest.mark.parametrize("name", sorted(registered()))
def test_corruptions_have_five_severities_of_8_bits_and_depend_on_the_sample_alone(name: str) -> None:
    kind = registered()[name]
    assert len(kind.constants) == 5
    distances = []
    for severity in range(1, 6):
        attack = kind(severity=severity)
        assert attack.perturbation() == Corruption(severity)
        assert attack.access == "nothing"
        images = corrupted(attack, COLOUR)
        assert torch.equal(corrupted(attack, COLOUR[2:4], first=2), images[2:4])
        distances.append(float((images - COLOUR).square().mean().sqrt()))
    assert min(distances) > LEVEL
    if name not in ("saturate", "elastic-transform", "glass-blur"):  # published severities of these do not grow
        assert sorted(distances) == distances
    if name != "saturate":
        assert corrupted(kind(), GREY).shape == GREY.shape


@pytest.mark.parametrize("severity", [0, 6])
def test_other_severities_are_refused(severity: int) -> None:
    with pytest.raises(ParameterError, match=f"severity={severity}"):
        GaussianNoise(severity=severity)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise_has_the_standard_deviation_of_its_severity(severity: int) -> None:
    sigma = GaussianNoise.constants[severity - 1]
    noise = change(GaussianNoise(severity=severity), 0.5)
    assert noise.std() == pytest.approx(sigma, rel=0.02)
    assert noise.mean() == pytest.approx(-LEVEL / 2, abs=5 * sigma / 200)  # half a level is cut off
    speckle = change(SpeckleNoise(severity=severity), 0.5)
    assert speckle.std() == pytest.approx(0.5 * SpeckleNoise.constants[severity - 1], rel=0.02)
    assert change(SpeckleNoise(severity=severity), 0.0).abs().max() == 0


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_shot_noise_is_poisson(severity: int) -> None:
    photons = ShotNoise.constants[severity - 1]
    noise = change(ShotNoise(severity=severity), 0.4)
    assert noise.std() == pytest.approx(math.sqrt(0.4 / photons), rel=0.03)
    assert change(ShotNoise(severity=severity), 0.0).abs().max() == 0


@pytest.mark.parametrize("severity", [1, 5])
def test_impulse_noise_replaces_its_share_of_values(severity: int) -> None:
    share = ImpulseNoise.constants[severity - 1]
    values = change(ImpulseNoise(severity=severity), 100 * LEVEL) + 100 * LEVEL
    white, black = ((values == extreme).float().mean() for extreme in (1, 0))
    spread = 5 * math.sqrt(share / 2) / 200
    assert white == pytest.approx(share / 2, abs=spread)
    assert black == pytest.approx(share / 2, abs=spread)
    assert torch.unique(values).numel() == 3


def expected_close(images: torch.Tensor, expected: Any, levels: float = 1.01) -> None:
    """Whether images are the expected ones, cut off to 8 bits."""
    expected = torch.as_tensor(np.asarray(expected)).double().clamp(0, 1)
    assert (images.double() - expected).abs().max() <= levels * LEVEL
    assert (images.double() <= expected + 1e-4).all()


def filtered(images: torch.Tensor, kernel: np.ndarray[Any, Any], mode: str) -> np.ndarray[Any, Any]:
    return ndimage.correlate(images.double().numpy(), kernel[None, None], mode=mode)


@pytest.mark.parametrize("severity", [1, 5])
def test_blurs_are_those_of_scipy(severity: int) -> None:
    sigma = GaussianBlur.constants[severity - 1]
    blurred = ndimage.gaussian_filter(COLOUR.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4)
    expected_close(corrupted(GaussianBlur(severity=severity), COLOUR), blurred)
    radius, alias = DefocusBlur.constants[severity - 1]
    across = np.arange(-8, 9)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).astype(float)
    soft = np.exp(-(np.arange(-1, 2) ** 2) / (2 * alias**2))
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(soft, soft) / soft.sum() ** 2, mode="constant")
    expected_close(corrupted(DefocusBlur(severity=severity), COLOUR), filtered(COLOUR, kernel, "mirror"))


def test_motion_blur_averages_along_a_line_of_at_most_45_degrees() -> None:
    points = torch.zeros(8, 1, 41, 41)
    points[:, :, 20, 20] = 1
    spread = corrupted(MotionBlur(severity=5), points)
    for image in spread[:, 0]:
        rows, columns = (image > 0).nonzero().unbind(dim=1)
        assert columns.min() < 20 == columns.max()  # the line goes to the right of each pixel
        assert (rows - 20).abs().max() <= (20 - columns).max() + 1
        assert image.sum() == pytest.approx(1, abs=0.1)
        weights = np.exp(-(np.arange(19) ** 2) / (2 * 2.5**2))
        assert image[20, 20] == pytest.approx(weights[0] / weights.sum(), abs=LEVEL)
    assert len({tuple((image > 0).nonzero().flatten().tolist()) for image in spread}) > 3


def test_zoom_blur_averages_enlargements() -> None:
    assert change(ZoomBlur(severity=5), 100 * LEVEL, side=32).abs().max() < 1e-6
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 128, 128)
    blurred = corrupted(ZoomBlur(severity=5), ramp)[0, 0]
    slope = (blurred[:, -1] - blurred[:, 0]).mean()
    assert slope == pytest.approx(np.mean([1, *(1 / np.arange(1, 1.26, 0.01))]), rel=0.02)


def test_glass_blur_moves_pixels_by_its_reach() -> None:
    points = torch.zeros(COUNT, 1, 28, 28)
    points[:, :, 8::6, 8::6] = 1
    moved = corrupted(GlassBlur(severity=1), points)  # sigma 0.05 does not blur
    assert set(torch.unique(moved).tolist()) <= {0.0, 1.0}
    near = torch.nn.functional.max_pool2d(points, 5, 1, 2)
    assert not moved[near == 0].any()
    assert not torch.equal(moved, points)


def test_contrast_and_brightness_have_closed_forms() -> None:
    means = COLOUR.double().mean(dim=(2, 3), keepdim=True)
    expected_close(corrupted(Contrast(severity=4), COLOUR), (COLOUR.double() - means) * 0.3 + means)
    black = torch.zeros(1, 3, 2, 2)
    expected_close(corrupted(Brightness(severity=2), black), torch.full((1, 3, 2, 2), 0.1))
    expected_close(corrupted(Brightness(severity=2), GREY), GREY.double() + 0.1)


def in_hsv(images: torch.Tensor, channel: int, factor: float, more: float) -> np.ndarray[Any, Any]:
    hsv = rgb2hsv(images.double().permute(0, 2, 3, 1).numpy())
    hsv[..., channel] = np.clip(hsv[..., channel] * factor + more, 0, 1)
    return hsv2rgb(hsv).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("severity", [1, 4, 5])
def test_brightness_and_saturation_are_those_of_hsv(severity: int) -> None:
    more = Brightness.constants[severity - 1]
    expected_close(corrupted(Brightness(severity=severity), COLOUR), in_hsv(COLOUR, 2, 1, more))
    images = COLOUR.clone()
    images[0] = 0.4  # grey has the hue of red
    images[1, :, :5] = 0
    expected_close(corrupted(Saturate(severity=severity), images), in_hsv(images, 1, *Saturate.constants[severity - 1]))


def test_fog_lightens_with_a_map_of_heights() -> None:
    heights = plasma(32, 2.0, np.random.default_rng(0))
    assert (heights.shape, heights.min(), heights.max()) == ((32, 32), 0, 1)
    rough = plasma(32, 1.2, np.random.default_rng(0))
    assert np.abs(np.diff(rough)).mean() > 2 * np.abs(np.diff(heights)).mean()
    assert plasma(28, 2.0, np.random.default_rng(0)).shape == (32, 32)
    black = torch.zeros(1, 1, 28, 28)
    assert not corrupted(Fog(severity=5), black).any()  # there is no light
    white = corrupted(Fog(severity=5), torch.ones(1, 1, 32, 32))
    assert white.min() == pytest.approx(1 / 2.5, abs=LEVEL)
    assert white.max() == 1


def test_pixelate_averages_areas() -> None:
    halves = torch.zeros(1, 1, 28, 28)
    halves[..., 13:] = 200 * LEVEL
    pixels = corrupted(Pixelate(severity=5), halves)
    assert set((pixels * 255).round().int().flatten().tolist()) > {0, 200}
    assert (pixels[0, 0] == pixels[0, 0, :1]).all()
    assert pixels.mean() == pytest.approx(200 * 15 / 28 * LEVEL, abs=LEVEL)


def test_elastic_transforms_move_pixels_smoothly() -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    for severity, constants in enumerate(ElasticTransform.constants, 1):
        moved = corrupted(ElasticTransform(severity=severity), ramp.expand(4, -1, -1, -1))
        shift = (moved - ramp)[:, :, 8:24, 8:24].abs().max() * 31
        assert 0 < shift < 32 * (3 * constants[2] + constants[0]) + 1
    assert change(ElasticTransform(severity=3), 100 * LEVEL, side=32).abs().max() < 1e-6


def test_jpeg_gets_worse_with_the_severity_and_takes_grey_and_colour_images() -> None:
    assert JpegArtefacts().misfit((4, 8, 8), 10) == "images of 4 channels; JPEG takes grey and RGB"
    assert not JpegArtefacts().misfit((1, 8, 8), 10)
    assert Saturate().misfit((1, 28, 28), 10) == "images of 1 channels have no saturation; it takes RGB"
    file = io.BytesIO()
    Image.fromarray((GREY[0, 0] * 255).round().byte().numpy()).save(file, "JPEG", quality=40)
    expected_close(corrupted(JpegArtefacts(severity=5), GREY)[0, 0], np.asarray(Image.open(file)) / 255)
