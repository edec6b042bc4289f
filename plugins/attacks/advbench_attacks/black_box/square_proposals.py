"""What the square attack tries next: points that differ from the best one in a square window."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch

from advbench.api import SampleRandom
from advbench_attacks.balls import Ball
from advbench_attacks.input_gradients import each
from advbench_attacks.minimal_steps import size, unit

__all__ = ["Proposals", "proposals"]

_TILES = 5
"""Into how many tiles a side of the image is divided at the start in L2."""


class Proposals(ABC):
    """Where the attack begins, and what it tries in place of a sample's best point.

    Args:
        ball: Where points may lie.
        shape: An image's channels, height and width.
    """

    def __init__(self, ball: Ball, shape: torch.Size) -> None:
        self.ball = ball
        self.channels, self.height, self.width = shape

    @property
    @abstractmethod
    def numbers(self) -> int:
        """How many uniform random numbers a proposal takes."""

    @abstractmethod
    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The first points, of the images' shape."""

    @abstractmethod
    def next(self, points: torch.Tensor, images: torch.Tensor, numbers: torch.Tensor, share: float) -> torch.Tensor:
        """Points to try in place of these.

        Args:
            points: The best points so far, shape (samples, channels, height, width).
            images: Clean images, of the same shape.
            numbers: Uniform in [0, 1), shape (samples, :attr:`numbers`).
            share: What share p of the pixels the window is to have.
        """

    def side(self, share: float) -> int:
        """The side of a window with this share of the pixels."""
        return max(1, min(round(math.sqrt(share * self.height * self.width)), self.height, self.width))

    def window(self, corner: torch.Tensor, side: int) -> tuple[torch.Tensor, ...]:
        """The index of a window in each sample's image, from two uniform numbers a sample, shape (samples, 2)."""
        room = torch.tensor([self.height - side, self.width - side], device=corner.device)
        first = torch.minimum((corner * (room + 1)).long(), room)
        along = torch.arange(side, device=corner.device)
        samples = torch.arange(len(corner), device=corner.device)
        channels = torch.arange(self.channels, device=corner.device)
        rows, columns = first[:, :1] + along, first[:, 1:] + along
        return each(samples), channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]


class _LinfProposals(Proposals):
    """Squares of one value a channel (Andriushchenko et al. 2020, algorithm 2)."""

    @property
    def numbers(self) -> int:
        """Two for the window, one a channel for its sign."""
        return 2 + self.channels

    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Vertical stripes one pixel wide of ±eps."""
        stripes = _signs(rng.uniform(self.channels, 1, self.width).to(images))
        return self.ball.at(self.ball.eps * stripes, images)

    def next(self, points: torch.Tensor, images: torch.Tensor, numbers: torch.Tensor, share: float) -> torch.Tensor:
        """The change in a random window becomes ±eps, at one sign a channel."""
        window = self.window(numbers[:, :2], self.side(share))
        proposed = points.clone()
        proposed[window] = self.ball.at(self.ball.eps * _signs(numbers[:, 2:])[:, :, None, None], images[window])
        return proposed


class _L2Proposals(Proposals):
    """Bumps with a centre of large changes, that take over the length of two windows (algorithm 3)."""

    def __init__(self, ball: Ball, shape: torch.Size) -> None:
        super().__init__(ball, shape)
        self._bumps: dict[int, torch.Tensor] = {}

    @property
    def numbers(self) -> int:
        """Two for each of two windows, one for the bump's direction, one a channel for its sign."""
        return 5 + self.channels

    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """A grid of 5 × 5 bumps of random signs and directions, of L2 norm eps together."""
        side = max(1, min(self.height, self.width) // _TILES)
        down, across = min(_TILES, self.height // side), min(_TILES, self.width // side)
        signs = _signs(rng.uniform(self.channels, down, across).to(images))
        bumps = self._turned(side, rng.uniform(down * across).to(images).flatten())
        bumps = bumps.reshape(-1, 1, down, across, side, side) * signs[..., None, None]
        tiles = bumps.permute(0, 1, 2, 4, 3, 5).reshape(-1, self.channels, down * side, across * side)
        top, left = (self.height - down * side) // 2, (self.width - across * side) // 2
        changes = torch.zeros_like(images)
        changes[:, :, top : top + down * side, left : left + across * side] = tiles
        return self.ball.at(self.ball.eps * unit(changes), images)

    def next(self, points: torch.Tensor, images: torch.Tensor, numbers: torch.Tensor, share: float) -> torch.Tensor:
        """A bump is added in one window, and paid for with what the change has in it and in another window."""
        side = self.side(share)
        first, second = self.window(numbers[:, :2], side), self.window(numbers[:, 2:4], side)
        changes = points - images
        rest = changes.clone()
        rest[first] = rest[second] = 0.0
        unused = (self.ball.eps**2 - size(changes, "l2").square()).clamp(min=0)
        length = ((changes - rest).square().sum(dim=(2, 3)) + unused[:, None] / self.channels).sqrt()
        bumps = self._turned(side, numbers[:, 4])[:, None] * _signs(numbers[:, 5:])[:, :, None, None]
        rest[first] = _normalised(bumps + _normalised(changes[first])) * length[:, :, None, None]
        return self.ball.at(rest, images)

    def side(self, share: float) -> int:
        """An odd side, of 3 at least where the image allows it."""
        side = min(max(super().side(share), 3) | 1, self.height, self.width)
        return side if side % 2 else max(1, side - 1)

    def _turned(self, side: int, numbers: torch.Tensor) -> torch.Tensor:
        """A bump a number, upright or lying: shape (numbers, side, side)."""
        if side not in self._bumps:
            self._bumps[side] = _bump(side)
        bump = self._bumps[side].to(numbers)
        return torch.where(numbers[:, None, None] < 0.5, bump, bump.T)


def proposals(ball: Ball, shape: torch.Size) -> Proposals:
    """The proposals for the ball's norm, ``linf`` or ``l2``, and images of this shape."""
    return (_LinfProposals if ball.norm == "linf" else _L2Proposals)(ball, shape)


def _signs(numbers: torch.Tensor) -> torch.Tensor:
    """Each of ±1 for half of the uniform numbers."""
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _normalised(parts: torch.Tensor) -> torch.Tensor:
    """Each channel of each sample at L2 norm 1; 0 where it is 0."""
    tiny = torch.finfo(parts.dtype).tiny
    return parts / parts.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp(min=tiny)


def _bump(side: int) -> torch.Tensor:
    """Two halves of opposite sign, each highest in its centre, of L2 norm 1 together; shape (side, side)."""
    half = side // 2
    bump = torch.cat((_hill(half, side), -_hill(side - half, side)))
    normalised: torch.Tensor = bump / bump.norm()
    return normalised


def _hill(height: int, width: int) -> torch.Tensor:
    """Σ 1/(j + 1)² over j from the distance to the centre up to half of the longer side (equation 2)."""
    reach = max(height, width) // 2
    terms = (torch.arange(reach + 1.0) + 1) ** -2
    sums = terms.flip(0).cumsum(0).flip(0)
    down = (torch.arange(height) - height // 2).abs()[:, None]
    across = (torch.arange(width) - width // 2).abs()
    return sums[torch.maximum(down, across)]
