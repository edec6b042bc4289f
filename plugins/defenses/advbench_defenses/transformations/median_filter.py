"""The median of each pixel's surroundings."""

from __future__ import annotations

import torch

__all__ = ["median_filter"]


def median_filter(images: torch.Tensor, size: int) -> torch.Tensor:
    """Filters each channel with a square window; autograd has its subgradient.

    Of two middle values, the result is the larger one. In an even square, the pixel is the lower right one of the four
    in the middle. Images are mirrored at the edges, with the edge. This is ``scipy.ndimage.median_filter``.

    Args:
        images: Shape (batch, channels, height, width), at least size // 2 pixels high and wide.
        size: Side of the window in pixels.
    """
    padded = images
    for axis in (2, 3):
        length = images.shape[axis]
        places = torch.arange(-(size // 2), length + size - 1 - size // 2, device=images.device)
        places = torch.where(places < 0, -places - 1, places)
        places = torch.where(places >= length, 2 * length - 1 - places, places)
        padded = padded.index_select(axis, places)
    if size == 2:
        return _middle_of_four(*(padded[:, :, down:, right:] for down, right in ((0, 0), (0, 1), (1, 0), (1, 1))))
    squares = padded.unfold(2, size, 1).unfold(3, size, 1).flatten(4)
    return squares.kthvalue(size * size // 2 + 1, dim=4).values


def _middle_of_four(*shifted: torch.Tensor) -> torch.Tensor:
    """The second largest of four values, of tensors that are cut to the size of the last one."""
    height, width = shifted[-1].shape[2:]
    first, second, third, fourth = (values[:, :, :height, :width] for values in shifted)
    high = torch.minimum(torch.maximum(first, second), torch.maximum(third, fourth))
    low = torch.maximum(torch.minimum(first, second), torch.minimum(third, fourth))
    return torch.maximum(high, low)
