"""Transformations without random numbers: bit depth, median, bilateral filter, wavelets, non-local means."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from skimage.restoration import denoise_bilateral, denoise_wavelet

from advbench.api import Defense, ParameterError, SampleRandom
from advbench_defenses.non_local_means import non_local_means
from advbench_defenses.transformations.bilateral import BilateralFilter
from advbench_defenses.transformations.bit_depth import BitDepth
from advbench_defenses.transformations.median import MedianSmoothing
from advbench_defenses.transformations.non_local_means import NonLocalMeans
from advbench_defenses.transformations.wavelet import WaveletDenoising

RNG = SampleRandom(0, "defense", range(5))
VALUES = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.45, 0.55, 0.7, 0.8, 0.95, 1.0])


def rounded(defense: Defense) -> list[float]:
    image = VALUES.reshape(1, 1, 2, 5)
    return defense.apply(image, RNG).flatten().tolist()


@pytest.mark.parametrize(
    ("rounding", "bits", "expected"),
    [
        ("xu", 1, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        ("xu", 2, [0, 0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 1, 1]),
        ("guo", 1, [0, 0, 0, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]),
        ("guo", 2, [0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1, 1]),
    ],
)
def test_bit_depth_has_the_levels_of_its_papers(rounding: str, bits: int, expected: list[float]) -> None:
    assert rounded(BitDepth(bits, rounding)) == pytest.approx(expected)


@pytest.mark.parametrize("rounding", ["xu", "guo"])
def test_the_soft_rounding_meets_the_levels_and_has_a_slope_at_them(rounding: str) -> None:
    defense = BitDepth(2, rounding)
    levels = (torch.arange(4) / (3 if rounding == "xu" else 4)).reshape(1, 1, 2, 2).requires_grad_()
    soft = defense.approximation(levels, RNG[:1])
    torch.testing.assert_close(soft, levels)
    soft.sum().backward()
    assert levels.grad is not None
    torch.testing.assert_close(levels.grad, torch.full_like(levels, 0.2))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_median_is_scipys(images: torch.Tensor, size: int) -> None:
    expected = np.stack([[median_filter(plane, size) for plane in image] for image in images.numpy()])
    assert np.array_equal(MedianSmoothing(size).apply(images, RNG).numpy(), expected)


def test_the_medians_gradient_is_that_of_the_pixel_in_the_middle() -> None:
    image = torch.arange(9.0).reshape(1, 1, 3, 3).div(10).requires_grad_()
    MedianSmoothing(3).apply(image, RNG[:1])[0, 0, 1, 1].backward()
    assert image.grad is not None
    assert image.grad.flatten().tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("colour", "size"), [(0.1, 5), (0.3, 3), (0.05, 7), (0.1, 1)])
def test_the_bilateral_filters_weights_for_colours_are_scikit_images(
    images: torch.Tensor, colour: float, size: int
) -> None:
    channels = images.shape[1]
    for image, ours in zip(images.double(), BilateralFilter(colour, 1000, size).apply(images, RNG), strict=True):
        expected = denoise_bilateral(
            image[0].numpy() if channels == 1 else image.movedim(0, 2).numpy(),
            win_size=size,
            sigma_color=colour / channels,  # it divides distances by the number of channels
            sigma_spatial=1000,  # all weights are 1: its table of weights for distances is not symmetric
            bins=100_000,
            mode="edge",
            channel_axis=None if channels == 1 else -1,
        )
        np.testing.assert_allclose(ours.movedim(0, 2).squeeze(2).numpy(), expected, atol=1e-4)


def test_the_bilateral_filters_weights_for_distances_are_a_gaussian() -> None:
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1e-3  # so similar that only distances count
    offsets = torch.arange(-3, 4)
    weights = (-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2)).exp()
    filtered = BilateralFilter(1, 1.5, 7).apply(image, RNG[:1])[0, 0, 1:8, 1:8]
    torch.testing.assert_close(filtered, 1e-3 * weights / weights.sum(), rtol=1e-4, atol=0)


def test_the_bilateral_filter_keeps_an_edge_that_a_blur_does_not() -> None:
    image = torch.tensor([0.0, 0.05, 0.0, 1.0, 0.95, 1.0]).expand(1, 1, 6, 6)
    filtered = BilateralFilter(0.1, 1, 3).apply(image, RNG[:1])[0, 0, 3]
    assert filtered[:3].std() < 0.5 * image[0, 0, 0, :3].std()
    assert filtered[3] - filtered[2] > 0.95


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (16, 11), (65, 70), (5, 3)])
@pytest.mark.parametrize("sigma", [0.04, 0.2])
def test_wavelet_denoising_is_scikit_images(height: int, width: int, sigma: float) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(height))
    images[0] = images[0] * 0.1 + torch.linspace(0, 0.9, width)
    for image, ours in zip(images.numpy(), WaveletDenoising(sigma).apply(images, RNG[:2]).numpy(), strict=True):
        expected = [
            denoise_wavelet(plane, sigma=sigma, wavelet="db1", method="BayesShrink", rescale_sigma=False)
            for plane in image
        ]
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_wavelets_halve_as_often_as_they_are_told() -> None:
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = denoise_wavelet(
        images[0, 0].numpy(), sigma=0.3, wavelet="db1", wavelet_levels=4, method="BayesShrink", rescale_sigma=False
    )
    np.testing.assert_allclose(WaveletDenoising(0.3, 4).apply(images, RNG[:1])[0, 0].numpy(), expected, atol=1e-5)
    assert "can be halved 5 times, not 6 times" in WaveletDenoising(levels=6).incompatibility((1, 32, 32))
    assert not WaveletDenoising(levels=5).incompatibility((1, 32, 32))


def test_the_wavelets_approximation_has_the_gradient_of_what_is_kept(grey: torch.Tensor) -> None:
    smooth = torch.full((1, 1, 8, 8), 0.5).requires_grad_()  # details of 0 are removed, and the mean of four remains
    WaveletDenoising().approximation(smooth, RNG[:1])[0, 0, 0, 0].backward()
    assert smooth.grad is not None
    torch.testing.assert_close(smooth.grad[0, 0, :2, :2], torch.full((2, 2), 0.25))
    assert smooth.grad.count_nonzero() == 4
    defense = WaveletDenoising(0.1)
    torch.testing.assert_close(defense.approximation(grey, RNG), defense.apply(grey, RNG))


def test_non_local_means_with_fixed_weights_are_a_linear_filter(images: torch.Tensor) -> None:
    defense = NonLocalMeans(20, search=5)
    assert torch.equal(defense.approximation(images, RNG), defense.apply(images, RNG))
    leaf = images.clone().requires_grad_()
    defense.approximation(leaf, RNG).sum().backward()
    assert leaf.grad is not None
    filtered = non_local_means(leaf.grad * images, 20 / 255, 5, 3, guide=images)
    assert filtered.isfinite().all()
    torch.testing.assert_close((leaf.grad * images).sum(), defense.apply(images, RNG).sum())  # linear: J'1 · x = 1'Jx


def test_no_strength_and_windows_of_one_pixel_leave_the_image(images: torch.Tensor) -> None:
    for defense in (NonLocalMeans(0), MedianSmoothing(1), BilateralFilter(size=1)):
        torch.testing.assert_close(defense.apply(images, RNG), images)


@pytest.mark.parametrize(
    ("defense", "shape", "message"),
    [
        (MedianSmoothing(9), (1, 3, 20), "size=9 is too large for images of 3×20"),
        (NonLocalMeans(), (3, 7, 20), "search=13 with patch=3 takes images of at least 8 pixels, not 7×20"),
    ],
)
def test_windows_larger_than_the_image_are_refused(defense: Defense, shape: tuple[int, int, int], message: str) -> None:
    assert message in defense.incompatibility(shape)
    larger = (shape[0], 28, 28)
    assert not defense.incompatibility(larger)
    assert math.isfinite(float(defense.apply(torch.rand(1, *larger), RNG[:1]).sum()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BilateralFilter(size=4), "size=4: must be odd"),
        (lambda: NonLocalMeans(search=4), "search=4: must be odd"),
        (lambda: NonLocalMeans(patch=2), "patch=2: must be odd"),
        (lambda: BitDepth(0), "bits"),
        (lambda: WaveletDenoising(0), "sigma"),
    ],
)
def test_parameters_without_a_meaning_are_refused(make: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()  # type: ignore[operator]
