from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from advbench.api import ContractError, SampleRandom
from advbench_defenses import jpeg_mosaic
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.jpeg_mosaic import recompress, recompress_individually

RNG = SampleRandom(0, "defense", range(5))


def by_hand(image: torch.Tensor, quality: int) -> torch.Tensor:
    pixels = np.rint(image.numpy() * 255).astype(np.uint8)
    picture = Image.merge("RGB", [Image.fromarray(p) for p in pixels]) if len(pixels) == 3 else Image.new("L", (11, 16))
    if len(pixels) == 1:
        picture.putdata(pixels.ravel().tolist())
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    read = Image.open(file)
    bands = np.stack([np.asarray(band) for band in read.split()])
    return torch.from_numpy(bands.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("quality", [1, 75, 100])
def test_it_equals_pillow_called_by_hand(images: torch.Tensor, quality: int) -> None:
    expected = torch.stack([by_hand(image, quality) for image in images])
    assert torch.equal(JpegCompression(quality).apply(images, RNG), expected)


def test_grey_images_are_compressed_as_mode_l(grey: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    save = Image.Image.save

    def spy(self: Image.Image, *args: object, **kwargs: object) -> None:
        modes.append(self.mode)
        save(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", spy)
    JpegCompression(42).apply(grey, RNG)
    assert set(modes) - {"RGB"} == {"L"}


SIZES = [(1, 1), (1, 20), (2, 3), (3, 5), (4, 4), (5, 4), (7, 9), (16, 16), (17, 15), (28, 28), (31, 33), (32, 32)]


def kinds(channels: int, height: int, width: int) -> np.ndarray:
    """Noise, a wave and one flat image, as bytes."""
    rng = np.random.default_rng(height * width)
    noise = rng.integers(0, 256, (2, channels, height, width))
    wave = 127 + 100 * np.sin(np.arange(channels * height * width).reshape(1, channels, height, width) / 7)
    flat = np.full((1, channels, height, width), 77)
    return np.concatenate((noise, wave, flat)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_batch_equals_pillow_image_by_image(height: int, width: int, channels: int) -> None:
    pixels = kinds(channels, height, width)
    for quality in (1, 10, 50, 75, 90, 95, 100):
        assert np.array_equal(recompress(pixels, quality), recompress_individually(pixels, quality)), quality


@pytest.mark.parametrize("channels", [1, 3])
def test_every_quality_equals_pillow(channels: int) -> None:
    pixels = kinds(channels, 19, 22)
    for quality in range(1, 101):
        assert np.array_equal(recompress(pixels, quality), recompress_individually(pixels, quality)), quality


def test_batches_larger_than_one_picture_equal_pillow() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1100, 1, 60, 5), dtype=np.uint8)
    assert np.array_equal(recompress(pixels, 75), recompress_individually(pixels, 75))


def test_with_another_codec_rgb_images_are_coded_individually(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = kinds(3, 24, 24)
    expected = recompress_individually(pixels, 75)
    monkeypatch.setattr(jpeg_mosaic, "_upsample", lambda planes, *size: np.zeros((len(planes), *size), np.int32))
    jpeg_mosaic._is_libjpeg_turbo.cache_clear()
    try:
        assert np.array_equal(recompress(pixels, 75), expected)
    finally:
        jpeg_mosaic._is_libjpeg_turbo.cache_clear()


def test_an_empty_batch_gives_an_empty_batch() -> None:
    assert JpegCompression().apply(torch.zeros(0, 3, 8, 8), RNG).shape == (0, 3, 8, 8)


def test_higher_quality_is_nearer_to_the_image(images: torch.Tensor) -> None:
    errors = [float((JpegCompression(q).apply(images, RNG) - images).square().mean()) for q in (5, 25, 50, 75, 95)]
    assert errors == sorted(errors, reverse=True)
    assert len(set(errors)) == 5


def test_values_outside_the_range_are_clipped_before_rounding() -> None:
    beyond = torch.tensor([-0.3, 1.3]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    assert torch.equal(JpegCompression(100).apply(beyond, RNG), beyond.clamp(0, 1))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_rejected(channels: int) -> None:
    with pytest.raises(ContractError, match=f"not {channels}"):
        JpegCompression().apply(torch.zeros(1, channels, 8, 8), RNG)


def smooth(channels: int, height: int, width: int) -> torch.Tensor:
    """Three images of soft blobs, as JPEG is made for."""
    coarse = torch.rand(3, channels, 5, 5, generator=torch.Generator().manual_seed(2))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("quality", [10, 50, 75, 90])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_approximation_is_nearer_to_jpeg_than_the_image(channels: int, quality: int) -> None:
    images, defense = smooth(channels, 27, 34), JpegCompression(quality)
    true, stand_in = defense.apply(images, RNG), defense.approximation(images, RNG)
    assert stand_in.shape == images.shape
    assert (stand_in - true).square().mean() < 0.5 * (images - true).square().mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_approximation_has_a_gradient_everywhere(channels: int) -> None:
    images = smooth(channels, 16, 24).requires_grad_()
    (gradient,) = torch.autograd.grad(JpegCompression(50).approximation(images, RNG).square().sum(), images)
    assert gradient.isfinite().all()
    assert (gradient.abs() > 0).float().mean() > 0.99


def test_at_quality_100_the_approximation_of_a_grey_image_is_the_image() -> None:
    images = smooth(1, 16, 16)
    torch.testing.assert_close(JpegCompression(100).approximation(images, RNG), images, atol=4e-3, rtol=0)


def test_adaptive_attacks_also_follow_the_identity() -> None:
    images = torch.rand(2, 3, 16, 16).requires_grad_()
    defense = JpegCompression(50)
    output = defense.apply(images, RNG)
    soft, identity = (approximation(images, output, RNG) for approximation in defense.approximations())
    assert torch.equal(soft, defense.approximation(images, RNG))
    (gradient,) = torch.autograd.grad(identity.sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))


def test_images_of_other_channels_are_skipped() -> None:
    assert JpegCompression().incompatibility((4, 8, 8)) == "jpeg takes images of 1 or 3 channels, not 4"
    assert not JpegCompression().incompatibility((1, 8, 8))
    assert not JpegCompression().incompatibility((3, 224, 224))
