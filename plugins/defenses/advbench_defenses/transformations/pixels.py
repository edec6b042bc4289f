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
    batch, channels, height, width = images.shape
    # Whole rows first: each is one piece of memory.
    first = height * torch.arange(batch * channels, device=images.device).reshape(batch, channels, 1)
    tall = images.reshape(-1, width).index_select(0, (rows[:, None] + first).flatten())
    return tall.reshape(batch, channels, -1, width).gather(
        3, columns[:, None, None, :].expand(-1, channels, rows.shape[1], -1)
    )
