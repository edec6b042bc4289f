"""Other arrangements of the pixels of images."""

from __future__ import annotations

import torch

__all__ = ["take_pixels"]


def take_pixels(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Images of some rows and columns of pixels of each image; autograd follows the pixels.

    Args:
        images: Shape (batch, channels, height, width).
        rows: Rows of each image, int64, shape (batch, new height).
        columns: Columns of each image, int64, shape (batch, new width).

    Returns:
        Shape (batch, channels, new height, new width).
    """
    samples = torch.arange(len(images), device=images.device)[:, None, None]
    return images.movedim(1, 3)[samples, rows[:, :, None], columns[:, None, :]].movedim(3, 1)
