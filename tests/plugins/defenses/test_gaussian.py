from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from advbench.api import SampleRandom
from advbench_defenses.gaussian import GaussianBlur

RNG = SampleRandom(0, "defense", range(5))


def assert_equals_scipy(defense: GaussianBlur, images: torch.Tensor, sigma_x: float, sigma_y: float) -> None:
    expected = gaussian_filter(images.numpy().astype(np.float64), sigma=(0, 0, sigma_y, sigma_x), mode="nearest")
    np.testing.assert_allclose(defense.apply(images, RNG).numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 1.0, 2.5])
def test_it_equals_scipy(images: torch.Tensor, sigma: float) -> None:
    assert_equals_scipy(GaussianBlur(sigma), images, sigma, sigma)


@pytest.mark.parametrize("sigma", [4.0, 7.0, 50.0])
def test_it_equals_scipy_where_the_kernel_is_wider_than_the_image(images: torch.Tensor, sigma: float) -> None:
    assert_equals_scipy(GaussianBlur(sigma), images, sigma, sigma)


def test_an_image_one_pixel_wide_is_blurred_along_its_column(grey: torch.Tensor) -> None:
    assert_equals_scipy(GaussianBlur(1.5), grey[..., :1], 1.5, 1.5)


@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(0, 0.6), (0.6, 0), (1, 2)])
def test_the_two_directions_have_their_own_sigma(images: torch.Tensor, sigma_x: float, sigma_y: float) -> None:
    assert_equals_scipy(GaussianBlur(0.5, sigma_x, sigma_y), images, sigma_x, sigma_y)


def test_a_missing_direction_uses_sigma(images: torch.Tensor) -> None:
    assert_equals_scipy(GaussianBlur(0.7, sigma_x=2), images, 2, 0.7)
    assert_equals_scipy(GaussianBlur(0.7, sigma_y=2), images, 0.7, 2)


def test_sigma_zero_returns_the_image_unchanged(images: torch.Tensor) -> None:
    assert torch.equal(GaussianBlur(0).apply(images, RNG), images)


def test_horizontal_blur_does_not_mix_rows() -> None:
    image = torch.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    blurred = GaussianBlur(0, sigma_x=1).apply(image, RNG)[0, 0]
    assert (blurred[2] > 0).all()
    assert blurred[[0, 1, 3, 4]].count_nonzero() == 0


def test_gradients_pass_through(grey: torch.Tensor) -> None:
    leaf = grey.clone().requires_grad_()
    GaussianBlur(1).apply(leaf, RNG).sum().backward()
    assert leaf.grad is not None
    # Weights sum to 1, so the total of all gradients is the number of pixels.
    torch.testing.assert_close(leaf.grad.sum(), torch.tensor(float(grey.numel())))
