"""Proposals of Square Attack: points that differ from the best one in a square window."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from advbench.api import SampleRandom
from advbench_attacks.balls import Ball
from advbench_attacks.norms import lp_norm, normalize_l2, per_image

__all__ = ["Proposals", "make_proposals"]

_TILES = 5
"""Number of tiles along each side of the image at the start in L2."""


class Proposals(ABC):
    """Start points and proposals for one norm and image shape.

    Args:
        ball: The ball that contains all points.
        shape: An image's channels, height and width.
    """

    def __init__(self, ball: Ball, shape: torch.Size) -> None:
        self.ball = ball
        self.channels, self.height, self.width = shape

    @property
    @abstractmethod
    def draws(self) -> int:
        """Number of uniform random numbers per proposal."""

    @abstractmethod
    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the start points, of the images' shape."""

    @abstractmethod
    def next(self, points: torch.Tensor, images: torch.Tensor, uniforms: torch.Tensor, share: float) -> torch.Tensor:
        """Proposes a change of each sample's best point.

        Args:
            points: The best points so far, shape (samples, channels, height, width).
            images: Clean images, of the same shape.
            uniforms: Random numbers, uniform in [0, 1), shape (samples, :attr:`draws`).
            share: The window's share p of the pixels.

        Returns:
            The proposed points, of the same shape.
        """

    def side(self, share: float) -> int:
        """Returns the side length of a window with this share of the pixels."""
        return max(1, min(round(math.sqrt(share * self.height * self.width)), self.height, self.width))

    def window(self, corner: torch.Tensor, side: int) -> tuple[torch.Tensor, ...]:
        """Returns an index of one window per image, placed by two uniform numbers a sample, shape (samples, 2)."""
        top, left = (
            (corner[:, axis : axis + 1] * (size - side + 1)).long().clamp(max=size - side)
            for axis, size in enumerate((self.height, self.width))
        )
        window_offsets = torch.arange(side, device=corner.device)
        samples = torch.arange(len(corner), device=corner.device)
        channels = torch.arange(self.channels, device=corner.device)
        rows, columns = top + window_offsets, left + window_offsets
        return per_image(samples), channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]


class _LinfProposals(Proposals):
    """Squares of one value per channel (Andriushchenko et al. 2020, algorithm 2)."""

    @property
    def draws(self) -> int:
        """Two numbers for the window, and one per channel for the sign."""
        return 2 + self.channels

    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with vertical stripes of ±eps, one pixel wide."""
        stripes = _signs(rng.uniform(self.channels, 1, self.width).to(images))
        return self.ball.perturb(self.ball.eps * stripes, images)

    def next(self, points: torch.Tensor, images: torch.Tensor, uniforms: torch.Tensor, share: float) -> torch.Tensor:
        """Sets the perturbation in a random window to ±eps, with one sign per channel."""
        window = self.window(uniforms[:, :2], self.side(share))
        proposed = points.clone()
        proposed[window] = self.ball.perturb(self.ball.eps * _signs(uniforms[:, 2:])[:, :, None, None], images[window])
        return proposed


class _L2Proposals(Proposals):
    """Bumps with large values in the centre, which take over the L2 norm of two windows (algorithm 3)."""

    def __init__(self, ball: Ball, shape: torch.Size) -> None:
        super().__init__(ball, shape)
        self._bumps: dict[int, torch.Tensor] = {}

    @property
    def draws(self) -> int:
        """Two numbers for each of two windows, one for the bump's orientation, one per channel for its sign."""
        return 5 + self.channels

    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with a grid of 5 × 5 bumps of random signs and orientations, of total L2 norm eps."""
        side = max(1, min(self.height, self.width) // _TILES)
        tile_rows, tile_columns = min(_TILES, self.height // side), min(_TILES, self.width // side)
        signs = _signs(rng.uniform(self.channels, tile_rows, tile_columns).to(images))
        bumps = self._oriented_bumps(side, rng.uniform(tile_rows * tile_columns).to(images).flatten())
        bumps = bumps.reshape(-1, 1, tile_rows, tile_columns, side, side) * signs[..., None, None]
        tiles = bumps.permute(0, 1, 2, 4, 3, 5).reshape(-1, self.channels, tile_rows * side, tile_columns * side)
        top, left = (self.height - tile_rows * side) // 2, (self.width - tile_columns * side) // 2
        perturbations = torch.zeros_like(images)
        perturbations[:, :, top : top + tile_rows * side, left : left + tile_columns * side] = tiles
        return self.ball.perturb(self.ball.eps * normalize_l2(perturbations), images)

    def next(self, points: torch.Tensor, images: torch.Tensor, uniforms: torch.Tensor, share: float) -> torch.Tensor:
        """Adds a bump in one window; its norm comes from that window, a second one, and what remains of the budget."""
        side = self.side(share)
        first, second = self.window(uniforms[:, :2], side), self.window(uniforms[:, 2:4], side)
        perturbations = points - images
        rest = perturbations.clone()
        rest[first] = rest[second] = 0.0
        unused = (self.ball.eps**2 - lp_norm(perturbations, "l2").square()).clamp(min=0)
        length = ((perturbations - rest).square().sum(dim=(2, 3)) + unused[:, None] / self.channels).sqrt()
        bumps = self._oriented_bumps(side, uniforms[:, 4])[:, None] * _signs(uniforms[:, 5:])[:, :, None, None]
        rest[first] = (
            _normalized_channels(bumps + _normalized_channels(perturbations[first])) * length[:, :, None, None]
        )
        return self.ball.perturb(rest, images)

    def side(self, share: float) -> int:
        """Returns an odd side length, at least 3 where the image is large enough."""
        side = min(max(super().side(share), 3) | 1, self.height, self.width)
        return side if side % 2 else max(1, side - 1)

    def _oriented_bumps(self, side: int, uniforms: torch.Tensor) -> torch.Tensor:
        """Returns one bump per number, transposed where the number is at least ½: shape (numbers, side, side)."""
        if side not in self._bumps:
            self._bumps[side] = _bump(side).to(uniforms)
        bump = self._bumps[side]
        return torch.where(uniforms[:, None, None] < 0.5, bump, bump.T)


def make_proposals(ball: Ball, shape: torch.Size) -> Proposals:
    """Returns the proposals for the ball's norm, ``linf`` or ``l2``, and images of this shape."""
    return (_LinfProposals if ball.norm == "linf" else _L2Proposals)(ball, shape)


def _signs(uniforms: torch.Tensor) -> torch.Tensor:
    """Returns −1 for uniform numbers below ½ and 1 for the others."""
    return torch.where(uniforms < 0.5, -1.0, 1.0)


def _normalized_channels(values: torch.Tensor) -> torch.Tensor:
    """Scales each channel of each sample to L2 norm 1; an all-zero channel stays 0."""
    tiny = torch.finfo(values.dtype).tiny
    return values / values.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp(min=tiny)


def _bump(side: int) -> torch.Tensor:
    """Returns two halves of opposite sign, each largest in its centre, of total L2 norm 1; shape (side, side)."""
    half = side // 2
    bump = torch.cat((_half_bump(half, side), -_half_bump(side - half, side)))
    normalized: torch.Tensor = bump / bump.norm()
    return normalized


def _half_bump(height: int, width: int) -> torch.Tensor:
    """Returns Σ 1/(j + 1)² over j from the distance to the centre up to half of the longer side (equation 2)."""
    radius = max(height, width) // 2
    terms = (torch.arange(radius + 1.0) + 1) ** -2
    sums = terms.flip(0).cumsum(0).flip(0)
    row_distances = (torch.arange(height) - height // 2).abs()[:, None]
    column_distances = (torch.arange(width) - width // 2).abs()
    return sums[torch.maximum(row_distances, column_distances)]
