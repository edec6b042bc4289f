"""Joins overlapping patches along seams of least difference."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["grid", "join_patches"]


def grid(length: int, patch: int, overlap: int) -> list[int]:
    """Where patches begin along an axis: every ``patch - overlap`` pixels, and at the far end."""
    return [*range(0, length - patch, patch - overlap), length - patch]


def join_patches(patches: torch.Tensor, tops: Sequence[int], lefts: Sequence[int]) -> torch.Tensor:
    """Places patches row by row, each beside a seam through its overlap with the patches before it.

    Args:
        patches: Shape (batch, rows, columns, channels, side, side).
        tops: The rows of pixels at which the patches begin, ascending.
        lefts: The columns of pixels at which they begin, ascending.

    Returns:
        Images, shape (batch, channels, height, width).

    Source: Efros and Freeman 2001, Image Quilting for Texture Synthesis and Transfer, section 2.1.
    """
    batch, _, _, channels, side, _ = patches.shape
    images = patches.new_zeros(batch, channels, tops[-1] + side, lefts[-1] + side)
    for row, top in enumerate(tops):
        above = tops[row - 1] + side - top if row else 0
        for column, left in enumerate(lefts):
            before = lefts[column - 1] + side - left if column else 0
            new = patches[:, row, column]
            window = images[:, :, top : top + side, left : left + side]
            difference = (window - new).square().sum(dim=1)
            taken = torch.ones(batch, side, side, dtype=torch.bool, device=patches.device)
            if before:
                taken[:, :, :before] &= _after_seam(difference[:, :, :before])
            if above:
                taken[:, :above] &= _after_seam(difference[:, :above].transpose(1, 2)).transpose(1, 2)
            images[:, :, top : top + side, left : left + side] = torch.where(taken[:, None], new, window)
    return images


def _after_seam(difference: torch.Tensor) -> torch.Tensor:
    """Which pixels lie at or to the right of the seam from top to bottom whose differences have the least sum.

    Args:
        difference: Shape (batch, height, width).

    Returns:
        bool, of the same shape.
    """
    height, width = difference.shape[1:]
    costs = [difference[:, 0]]
    for row in range(1, height):
        padded = torch.nn.functional.pad(costs[-1], (1, 1), value=torch.inf)
        least = torch.minimum(torch.minimum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        costs.append(difference[:, row] + least)
    columns = torch.arange(width, device=difference.device)
    seam = costs[-1].argmin(dim=1)
    rows = [columns >= seam[:, None]]
    for row in range(height - 2, -1, -1):
        near = (columns - seam[:, None]).abs() <= 1
        seam = torch.where(near, costs[row], torch.inf).argmin(dim=1)
        rows.append(columns >= seam[:, None])
    return torch.stack(rows[::-1], dim=1)
