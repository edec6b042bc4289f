"""Breaks `median`: its subgradient reaches one pixel of each window, smooth averages reach all of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from advbench.api import SampleRandom
from advbench_defenses.transformations.median import MedianSmoothing
from benchmarks.breaks.replaced import Approximation, autograd, identity
from benchmarks.breaks.runner import main

TEMPERATURE = 0.05
"""Differences to the median at which the weight of a pixel falls by a factor e."""


def windows(images: torch.Tensor, size: int) -> torch.Tensor:
    """The pixels of each window; shape (batch, channels, size², height, width)."""
    before, after = size // 2, size - 1 - size // 2
    padded = functional.pad(images, (before, after, before, after), mode="replicate")
    height, width = images.shape[2:]
    shifts = [(down, right) for down in range(size) for right in range(size)]
    return torch.stack([padded[:, :, down : down + height, right : right + width] for down, right in shifts], dim=2)


def mean(defense: MedianSmoothing, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The mean of each window."""
    del output, rng
    return windows(images, defense.size).mean(dim=2)


def soft_median(
    defense: MedianSmoothing, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The mean of each window, with larger weights for pixels near its median: softmax(−|x − m| / T)."""
    del rng
    pixels = windows(images, defense.size)
    weights = (-(pixels.detach() - output[:, :, None]).abs() / TEMPERATURE).softmax(dim=2)
    return (weights * pixels).sum(dim=2)


APPROXIMATIONS: Mapping[str, Approximation] = {
    "autograd": autograd,
    "identity": identity,
    "soft median": soft_median,
    "mean": mean,
}

if __name__ == "__main__":
    main("median", __doc__, approximations=APPROXIMATIONS)
