"""Non-local means: each pixel becomes the mean of pixels whose surroundings are alike."""

from __future__ import annotations

import torch

__all__ = ["non_local_means"]


def non_local_means(
    images: torch.Tensor, strength: float, search: int, patch: int, guide: torch.Tensor | None = None
) -> torch.Tensor:
    """Filters a batch.

    A pixel in the search window has the weight exp(-d² / strength²), with d² the mean squared difference of the patches
    around the two pixels, over pixels and channels. Images are mirrored at the edges.

    Args:
        images: Shape (batch, channels, height, width).
        strength: Filter strength, on the scale of the pixels; larger values smooth more.
        search: Side of the search window in pixels; odd.
        patch: Side of the patches in pixels; odd.
        guide: Images of the same shape, whose patches are compared; None for the images themselves.

    Returns:
        Images of the same shape.

    Source: Buades, Coll and Morel 2005, A Non-Local Algorithm for Image Denoising, section 5.
    """
    height, width = images.shape[2:]
    reach, radius = search // 2, patch // 2
    margin = reach + radius
    padded = torch.nn.functional.pad(images, (margin,) * 4, mode="reflect")
    compared = padded if guide is None else torch.nn.functional.pad(guide, (margin,) * 4, mode="reflect")
    inner = slice(reach, -reach), slice(reach, -reach)
    centres = compared[:, :, inner[0], inner[1]]  # with the patches' margin
    total, weights = torch.zeros_like(images), torch.zeros_like(images[:, :1])
    for down in range(search):
        for right in range(search):
            window = slice(down, down + height + 2 * radius), slice(right, right + width + 2 * radius)
            others = compared[:, :, window[0], window[1]]
            squared = (others - centres).square().mean(dim=1, keepdim=True)
            distance = torch.nn.functional.avg_pool2d(squared, patch, stride=1)
            weight = (-distance / strength**2).exp()
            total += (
                weight * padded[:, :, window[0], window[1]][:, :, radius : radius + height, radius : radius + width]
            )
            weights += weight
    return total / weights
