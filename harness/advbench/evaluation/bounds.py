"""Models whose slope is one-sided at the bounds of [0, 1]: found, and given the slope inside.

``clamp(x, 0, 1)`` in a model changes no image, but its gradient in torch is 0 where a pixel is exactly 0 or 1, which
most pixels of MNIST are; ``relu(x)`` has none at 0, ``sqrt(x)`` an infinite one. An attack that follows the gradient
cannot move such pixels, although the model answers otherwise as soon as they move.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from advbench.api import for_rows, is_stochastic
from advbench.evaluation.memory import is_shortage

__all__ = ["InsideSlopes", "flat_at_bounds", "inset_of", "test_points"]

INSETS = (1e-6, 1e-4, 4e-3, 0.03)
"""How far inside the box slopes are looked for: beyond a bound's rounding in float32, in float16, in bfloat16, and
beyond clamps that cut off a few grey levels."""

_WELL_INSIDE = 0.1
"""Where slopes are compared with those at the bounds: far beyond any clamp that leaves images recognisable."""

_FEW = 0.05
"""Below this share of its pixels at a bound, those of one image may have no slope by chance."""

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


def inset_of(ask: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> float | None:
    """How far inside [0, 1] a classifier has the slopes that it lacks at the bounds; None where it lacks none.

    It lacks them where, in one channel of one test image, the gradient is 0 or no number at every pixel of value 0, or
    of value 1, and is a number other than 0 at one of them a little inside. The inset is the smallest that brings
    back the most. The property is the classifier's: it is told from fixed images, not from a batch.

    Args:
        ask: Images of the points' shape to logits.
        points: Test images, as :func:`test_points` makes them.
    """
    at_bounds = _slopes(ask, points)
    if at_bounds is None:
        return None
    dead = (at_bounds == 0) | ~at_bounds.isfinite()
    bounds = torch.stack([points == 0, points == 1])  # (bound, image, channel, height, width)
    suspects = bounds & (dead | ~bounds).flatten(3).all(dim=3)[..., None, None]
    if not bool(suspects.any()):
        return None
    found = []
    for inset in INSETS:
        inside = _slopes(ask, _inside(points, inset))
        alive = suspects.new_zeros(()) if inside is None else (inside != 0) & inside.isfinite()
        found.append((suspects & alive).transpose(1, 2).flatten(2).any(dim=2))  # (bound, channel)
    best = max(int(one.sum()) for one in found)
    if not best:
        return None
    return next(inset for inset, one in zip(INSETS, found, strict=True) if int(one.sum()) == best)


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
    """Whose gradient is exactly 0 at all pixels that are 0 or 1, not at all others, and not at those well inside.

    Args:
        gradient: The gradient at these images, of their shape.
        images: Shape (batch, channels, height, width).
        slopes: Images of that shape to the gradient there.

    Returns:
        bool, shape (batch,).
    """
    bound = ((images == 0) | (images == 1)).flatten(1)
    alive = (gradient != 0).flatten(1)
    flat = ~(alive & bound).any(dim=1) & (alive & ~bound).any(dim=1) & (bound.float().mean(dim=1) >= _FEW)
    if flat.any():
        inside = (slopes(_inside(images, _WELL_INSIDE)) != 0).flatten(1)
        flat = flat & (inside & bound).any(dim=1)
    return flat


def _inside(images: torch.Tensor, inset: float) -> torch.Tensor:
    """Images with every pixel in [inset, 1 - inset], and the gradient of the images themselves."""
    return images + (images.detach().clamp(inset, 1 - inset) - images.detach())


def _slopes(ask: Callable[[torch.Tensor], torch.Tensor], points: torch.Tensor) -> torch.Tensor | None:
    """The gradient of a fixed random weighting of the logits; None where asking for one raises."""
    try:
        with torch.enable_grad():
            asked = points.detach().clone().requires_grad_()
            logits = ask(asked)
        weights = torch.randn(logits.shape[1:], generator=torch.Generator().manual_seed(_SEED)).to(logits)
        return torch.autograd.grad(logits, asked, weights.expand_as(logits))[0]
    except RuntimeError as error:
        if is_shortage(error):
            raise
        return None
