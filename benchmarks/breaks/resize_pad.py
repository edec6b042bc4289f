"""Breaks `resize-pad`: the mean gradient over many draws, of the resizing itself or of smoother ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from advbench.api import SampleRandom
from advbench_defenses.transformations.resize_pad import ResizeAndPad
from benchmarks.breaks.replaced import Approximation, autograd, identity
from benchmarks.breaks.runner import main


def bilinear(defense: ResizeAndPad, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """Resizes and pads with the same numbers, but bilinearly, so that every pixel has a gradient."""
    del output
    channels, height, width = images.shape[1:]
    _, high, wide = defense.output_shape((channels, height, width))
    drawn = rng.uniform(3).to(images.device)
    lowest = max(1, int(height * defense.smallest))
    tall = lowest + (drawn[:, 0] * (int(height * defense.largest) - lowest + 1)).long()
    broad = (tall * width // height).clamp(min=1)
    top = (drawn[:, 1] * (high - tall + 1)).long()
    left = (drawn[:, 2] * (wide - broad + 1)).long()
    rows, columns = (torch.arange(size, device=images.device) + 0.5 for size in (high, wide))
    # Where each pixel of the padded image lies in the original, on grid_sample's scale from -1 to 1.
    down = 2 * (rows - top[:, None]) / tall[:, None] - 1
    right = 2 * (columns - left[:, None]) / broad[:, None] - 1
    grid = torch.stack((right[:, None].expand(-1, high, -1), down[:, :, None].expand(-1, -1, wide)), dim=3)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def unresized(approximation: Approximation) -> Approximation:
    """A approximation for padded images of the same size alone."""

    def checked(defense: ResizeAndPad, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        if output.shape != images.shape:
            return functional.interpolate(images, size=output.shape[2:], mode="bilinear")
        return approximation(defense, images, output, rng)

    return checked


APPROXIMATIONS: Mapping[str, Approximation] = {
    "autograd": autograd,
    "bilinear": bilinear,
    "identity": unresized(identity),
}

if __name__ == "__main__":
    main("resize-pad", __doc__, approximations=APPROXIMATIONS)
