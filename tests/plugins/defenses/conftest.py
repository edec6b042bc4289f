"""Images that the tests of the defenses share."""

from __future__ import annotations

import pytest
import torch


def _pictures(channels: int) -> torch.Tensor:
    """Five smooth, slightly noisy pictures, not square, with black areas as digits have them."""
    generator = torch.Generator().manual_seed(channels)
    coarse = torch.rand(5, channels, 4, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(16, 11), mode="bilinear")
    noisy = smooth + 0.1 * torch.randn(5, channels, 16, 11, generator=generator)
    return torch.where(smooth < 0.4, 0, noisy).clamp(0, 1)


@pytest.fixture
def grey() -> torch.Tensor:
    return _pictures(1)


@pytest.fixture
def colour() -> torch.Tensor:
    return _pictures(3)


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def images(request: pytest.FixtureRequest) -> torch.Tensor:
    return _pictures(request.param)
