"""Models whose slope is one-sided at the bounds of [0, 1]: found, and given the slope inside.

``clamp(x, 0, 1)`` in a model changes no image, but its gradient in torch is 0 where a pixel is exactly 0 or 1, which
most pixels of MNIST are; ``relu(x)`` has none at 0, ``sqrt(x)`` an infinite one. An attack that follows the gradient
cannot move such pixels, although the model answers otherwise as soon as they move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import for_rows, is_stochastic
from advbench.process.memory import is_shortage

__all__ = ["InsideSlopes", "flat_at_bounds", "inset_of", "test_points"]

INSETS = (1e-6, 1e-4, 4e-3, 0.03)
"""How far inside the box slopes are looked for: beyond a bound's rounding in float32, in float16, in bfloat16, and
beyond clamps that cut off a few grey levels."""

_WELL_INSIDE = (0.1, 0.2, 0.35)
"""Where slopes are compared with those nearer to the bounds: beyond clamps that leave images recognisable."""

_STEEP = 20.0
"""A slope at a bound so many times that well inside is a root's: it leads attacks that go by its size nowhere."""

_OTHER, _SOME = 0.05, 1e-3
"""By what share of itself, and of the image's largest, a slope at a bound must change to be another inside."""

_FEW = 0.05
"""Below this share of its pixels at a bound, those of one image may have no slope by chance."""

Slopes: TypeAlias = Callable[[torch.Tensor], "torch.Tensor | None"]
"""Test images to their gradients; None where there are none."""

_IMAGES = 4
_SEED = 20260
"""How many of the dataset's images are used; and the seed of the random patterns and of the weights of the logits."""


class InsideSlopes(torch.nn.Module):
    """A classifier that answers as before and whose gradient is that a little inside [0, 1].

    Args:
        target: The classifier.
        inset: How far inside: pixels are brought into [inset, 1 - inset] where the gradient is taken.

    What it answers is computed at the images themselves, in a pass of its own. A stochastic classifier, whose next
    pass would draw other numbers, is asked once, inside.
    """

    def __init__(self, target: torch.nn.Module, inset: float) -> None:
        super().__init__()
        self.training = False
        self.target = target
        self.inset = inset
        self.stochastic = is_stochastic(target)

    def for_rows(self, rows: torch.Tensor) -> InsideSlopes:
        """The classifier for some of the samples; see :func:`advbench.api.for_rows`."""
        return InsideSlopes(for_rows(self.target, rows), self.inset)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, classes)."""
        if not (torch.is_grad_enabled() and images.requires_grad):
            exact: torch.Tensor = self.target(images)
            return exact
        inside: torch.Tensor = self.target(_inside(images, self.inset))
        if self.stochastic:
            return inside
        with torch.no_grad():
            exact = self.target(images.detach())
        return inside + (exact - inside.detach())


def inset_of(ask: torch.nn.Module, points: torch.Tensor, batch_size: int = 1000) -> float | None:
    """How far inside [0, 1] a classifier has the slopes that it lacks at the bounds; None where it lacks none.

    It lacks them where, in one channel of one test image, the gradient is 0 or no number at every pixel of value 0, or
    of value 1, and is a number other than 0 at one of them a little inside. The inset is the smallest that brings
    back the most. The property is the classifier's: it is told from fixed images, not from a batch.

    Args:
        ask: The classifier.
        points: Test images, as :func:`test_points` makes them.
        batch_size: How many are asked about at once, which changes nothing of the answer.
    """
    slopes = functools.partial(_slopes, ask, batch_size)
    at_bounds = slopes(points)
    if at_bounds is None:
        return None
    dead = (at_bounds == 0) | ~at_bounds.isfinite()
    bounds = torch.stack([points == 0, points == 1])  # (bound, image, channel, height, width)
    if _is_steep(slopes, points, at_bounds):
        return INSETS[-1]
    suspects = bounds & (dead | ~bounds).flatten(3).all(dim=3)[..., None, None]
    if not bool(suspects.any()):
        # Of a stochastic classifier slopes are others at each call.
        return None if is_stochastic(ask) else _where_slopes_change(slopes, points, at_bounds)
    found, tried = [], []
    for inset in INSETS:
        inside = slopes(_inside(points, inset))
        tried.append(inside)
        alive = suspects.new_zeros(()) if inside is None else (inside != 0) & inside.isfinite()
        found.append((suspects & alive).transpose(1, 2).flatten(2).any(dim=2))  # (bound, channel)
    best = max(int(one.sum()) for one in found)
    if not best:
        return None
    first = next(number for number, one in enumerate(found) if int(one.sum()) == best)
    chosen = tried[first]
    steep = chosen is not None and _is_steep(slopes, points, chosen)  # behind a clamp
    return INSETS[-1 if steep else first]


def _is_steep(slopes: Slopes, points: torch.Tensor, at_bounds: torch.Tensor) -> bool:
    """Whether most slopes at one of the bounds are infinite, or many times those well inside, in most images."""
    inside = slopes(_inside(points, _WELL_INSIDE[0]))
    if inside is None:
        return False
    steep = ~at_bounds.isfinite() | (at_bounds.abs() > _STEEP * inside.abs())
    return any(_in_most(steep, (inside != 0) & (points == value)) for value in (0, 1))


def _where_slopes_change(slopes: Slopes, points: torch.Tensor, at_bounds: torch.Tensor) -> float | None:
    """The smallest inset, where many slopes at the bounds are others there.

    Such is a clamp on some pixels, or in one of several networks. Farther inside slopes of any network are others.
    """
    inside = slopes(_inside(points, INSETS[0]))
    if inside is None:
        return None
    gap, size = (at_bounds - inside).abs(), inside.abs()
    other = (gap > _OTHER * size) & (gap > _SOME * size.flatten(1).amax(dim=1)[:, None, None, None])
    return INSETS[0] if _in_most(other, (points == 0) | (points == 1), _FEW) else None


def _in_most(holds: torch.Tensor, among: torch.Tensor, share: float = 0.5) -> bool:
    """Whether something holds of more than a share of some pixels, in most of the images that have such."""
    count = among.flatten(1).sum(dim=1)
    much = (holds & among).flatten(1).sum(dim=1) > share * count
    there = count > 0
    return bool(there.any()) and bool((much & there).sum() > there.sum() / 2)


def test_points(images: torch.Tensor) -> torch.Tensor:
    """Images with pixels at the bounds: some images, the same in black and white, and patterns of black and white.

    Args:
        images: Images of the dataset, shape (n, channels, height, width), of which the first four are used.

    Returns:
        Shape (at most 14, channels, height, width).
    """
    channels, height, width = images.shape[1:]
    images = images[:_IMAGES]
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(2, channels, height, width, generator=generator).round()
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    board = ((rows // 4 + columns // 4) % 2).float().expand(1, channels, height, width)
    plain = torch.stack([torch.zeros(channels, height, width), torch.ones(channels, height, width)])
    patterns = torch.cat([noise, board, 1 - board, plain]).to(images)
    return torch.cat([images, images.round(), patterns])


def flat_at_bounds(
    gradient: torch.Tensor, images: torch.Tensor, slopes: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Whose gradient is exactly 0 at all pixels near the bounds and at no other, and not well inside.

    Near is as far as the farthest pixel without a slope is, so that a clamp that cuts off a part of the range is found,
    too.

    Args:
        gradient: The gradient at these images, of their shape.
        images: Shape (batch, channels, height, width).
        slopes: Images of that shape to the gradient there.

    Returns:
        bool, shape (batch,).
    """
    distances = torch.minimum(images, 1 - images).flatten(1)
    alive = (gradient != 0).flatten(1)
    farthest = distances.masked_fill(alive, -1.0).amax(dim=1)
    nearest = distances.masked_fill(~alive, 1.0).amin(dim=1)
    flat = alive.any(dim=1) & (nearest > farthest) & ((~alive).float().mean(dim=1) >= _FEW)
    back = torch.zeros_like(flat)
    for inset in _WELL_INSIDE if flat.any() else ():
        back = back | ((slopes(_inside(images, inset)) != 0).flatten(1) & ~alive).any(dim=1)
    return flat & back


def _inside(images: torch.Tensor, inset: float) -> torch.Tensor:
    """Images with every pixel in [inset, 1 - inset], and the gradient of the images themselves."""
    return images + (images.detach().clamp(inset, 1 - inset) - images.detach())


def _slopes(ask: torch.nn.Module, batch_size: int, points: torch.Tensor) -> torch.Tensor | None:
    """The gradient of a fixed random weighting of the logits; None where asking for one raises."""
    found = []
    try:
        for rows in torch.split(torch.arange(len(points), device=points.device), batch_size):
            with torch.enable_grad():
                asked = points[rows].detach().clone().requires_grad_()
                logits = for_rows(ask, rows)(asked)
            weights = torch.randn(logits.shape[1:], generator=torch.Generator().manual_seed(_SEED)).to(logits)
            found.append(torch.autograd.grad(logits, asked, weights.expand_as(logits))[0])
    except RuntimeError as error:
        if is_shortage(error):
            raise
        return None
    return torch.cat(found)
