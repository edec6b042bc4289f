"""Total variation minimisation with a gradient: the linear system that its solution satisfies."""

from __future__ import annotations

import torch

__all__ = ["linearised"]

SWEEPS = 20
"""Number of Jacobi sweeps; a value reaches so many pixels far."""

SMOOTHING = 0.03
"""Added to differences of neighbours, as the root of the sum of squares, so that flat areas have finite weights."""


def linearised(images: torch.Tensor, dropped: torch.Tensor, output: torch.Tensor, weight: float) -> torch.Tensor:
    """Approximates total variation minimisation around its output.

    The minimum u of TV(u) + 1/(2 · weight) · Σ (u − f)², with the sum over the kept values of the images f, satisfies
    (u − f)/weight − div(∇u/|∇u|) = 0 (without the first term where a value is dropped). With 1/|∇u| held fixed at the
    output's values, this is a linear system, whose solution is taken by Jacobi sweeps from the output. (Lagged
    diffusivity: Vogel and Oman 1996, Iterative Methods for Total Variation Denoising, section 3.)

    Args:
        images: Shape (batch, channels, height, width).
        dropped: Whether a value is dropped, bool, of the same shape.
        output: The restored images, without a gradient.
        weight: Strength of the smoothing.

    Returns:
        Images of the same shape, with a gradient to the kept values of ``images``.
    """
    with torch.no_grad():
        # As in apply, a dropped value that is 0 counts as kept.
        pull = (~dropped | (images == 0)).to(images.dtype) / weight
        right, down = (torch.diff(output, dim=axis) for axis in (3, 2))
        squares = torch.nn.functional.pad(right.square(), (0, 1)) + torch.nn.functional.pad(down.square(), (0, 0, 0, 1))
        diffusivity = (squares + SMOOTHING**2).rsqrt()
        to_right, to_below = diffusivity[:, :, :, :-1], diffusivity[:, :, :-1]
        total = pull.clone()
        total[:, :, :, :-1] += to_right
        total[:, :, :, 1:] += to_right
        total[:, :, :-1] += to_below
        total[:, :, 1:] += to_below
        to_right, from_left = to_right / total[:, :, :, :-1], to_right / total[:, :, :, 1:]
        to_below, from_above = to_below / total[:, :, :-1], to_below / total[:, :, 1:]
        share = torch.where(dropped, 0.0, pull / total)
    pulled = images * share
    pad = torch.nn.functional.pad
    restored = output
    for _ in range(SWEEPS):
        restored = (
            pulled
            + pad(to_right * restored[:, :, :, 1:], (0, 1))
            + pad(from_left * restored[:, :, :, :-1], (1, 0))
            + pad(to_below * restored[:, :, 1:], (0, 0, 0, 1))
            + pad(from_above * restored[:, :, :-1], (0, 0, 1, 0))
        )
    return restored
