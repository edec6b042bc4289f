"""Finds classifiers without a gradient at the bounds of [0, 1], and gives them the gradient a little inside.

``clamp(x, 0, 1)`` in a model changes no image, but its gradient in torch is 0 if a pixel is exactly 0 or 1, which most
pixels of MNIST are; the gradient of ``relu(x)`` at 0 is 0, that of ``sqrt(x)`` is infinite. A gradient attack cannot
move such pixels, although moving them would change the model's output.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import Answer, ClassifierWrapper, answer, for_rows, is_stochastic
from advbench.evaluation.work.attacked.missing_gradient import MissingGradientError
from advbench.process.memory import is_out_of_memory

__all__ = ["InsetGradients", "find_inset", "flat_at_bounds", "sample_points"]

INSETS = (1e-6, 1e-4, 4e-3, 0.03)
"""How far inside the bounds gradients are tried: beyond rounding in float32, in float16 and in bfloat16, and beyond
clamps that cut off a few grey levels."""

_WELL_INSIDE = (0.1, 0.2, 0.35)
"""How far inside the bounds gradients serve as a reference: beyond clamps that leave images recognisable."""

_STEEP = 20.0
"""A gradient at a bound that is so many times the one well inside misleads attacks, as that of a square root does."""

_OTHER, _SOME = 0.05, 1e-3
"""A gradient changes if the difference exceeds these shares of itself and of the image's largest gradient."""

_FEW = 0.05
"""If less than this share of an image's pixels have no gradient, that may be chance."""

Slopes: TypeAlias = Callable[[torch.Tensor], "torch.Tensor | None"]
"""A function from test images to gradients; None if it has none."""

_IMAGES = 4
_SEED = 20260
"""The number of dataset images used, and the seed of the random patterns and of the weights of the logits."""


class InsetGradients(ClassifierWrapper):
    """A classifier with the same logits, and the gradient from a little inside [0, 1].

    The logits are computed at the images themselves, in a separate pass. For a stochastic classifier, whose next pass
    would draw other numbers, both come from one pass inside.

    Args:
        target: The classifier.
        inset: The gradient is taken at the pixels clipped to [inset, 1 - inset].
    """

    def __init__(self, target: torch.nn.Module, inset: float) -> None:
        super().__init__(target)
        self.inset = inset

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

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The target's full answer, with gradients from inside [0, 1]; see :func:`advbench.api.answer`."""
        if not (torch.is_grad_enabled() and images.requires_grad):
            return answer(self.target, images)
        inside = answer(self.target, _inside(images, self.inset))
        if self.stochastic:
            return inside
        with torch.no_grad():
            exact = answer(self.target, images.detach())
        logits = inside.logits + (exact.logits - inside.logits.detach())
        if inside.score is None or exact.score is None:
            return Answer(logits)
        return Answer(logits, inside.score + (exact.score - inside.score.detach()))


def find_inset(classifier: torch.nn.Module, points: torch.Tensor, batch_size: int = 1000) -> float | None:
    """Finds how far inside [0, 1] a classifier has the gradients that it lacks at the bounds; None if it lacks none.

    A gradient is lacking if, in one channel of one test image, it is 0 or not finite at every pixel of value 0, or of
    value 1, and finite and not 0 at one of these pixels a little inside. The result is the smallest inset that recovers
    the most gradients. It is a property of the classifier, and so computed from fixed images and not from a batch.

    Args:
        classifier: The classifier.
        points: Test images from :func:`sample_points`.
        batch_size: The batch size, which does not change the result.
    """
    slopes = functools.partial(_slopes, classifier, batch_size)
    at_bounds = slopes(points)
    if at_bounds is None:
        return None
    dead = (at_bounds == 0) | ~at_bounds.isfinite()
    bounds = torch.stack([points == 0, points == 1])  # (bound, image, channel, height, width)
    if _is_steep(slopes, points, at_bounds):
        return INSETS[-1]
    suspects = bounds & (dead | ~bounds).flatten(3).all(dim=3)[..., None, None]
    if not bool(suspects.any()):
        # A stochastic classifier has other gradients at each call.
        return None if is_stochastic(classifier) else _where_slopes_change(slopes, points, at_bounds)
    recovered, gradients = [], []
    for inset in INSETS:
        inside = slopes(_inside(points, inset))
        gradients.append(inside)
        alive = suspects.new_zeros(()) if inside is None else (inside != 0) & inside.isfinite()
        recovered.append(int((suspects & alive).transpose(1, 2).flatten(2).any(dim=2).sum()))  # bounds and channels
    if not max(recovered):
        return None
    first = recovered.index(max(recovered))
    chosen = gradients[first]
    steep = chosen is not None and _is_steep(slopes, points, chosen)  # behind a clamp
    return INSETS[-1 if steep else first]


def _is_steep(slopes: Slopes, points: torch.Tensor, at_bounds: torch.Tensor) -> bool:
    """Whether most gradients at one of the bounds are infinite, or many times those well inside, in most images."""
    inside = slopes(_inside(points, _WELL_INSIDE[0]))
    if inside is None:
        return False
    steep = ~at_bounds.isfinite() | (at_bounds.abs() > _STEEP * inside.abs())
    return any(_in_most(steep, (inside != 0) & (points == value)) for value in (0, 1))


def _where_slopes_change(slopes: Slopes, points: torch.Tensor, at_bounds: torch.Tensor) -> float | None:
    """The smallest inset, if many gradients at the bounds differ from those there; else None.

    A clamp on some pixels, or in one of several networks, has this effect. Farther inside the gradients of any network
    differ.
    """
    inside = slopes(_inside(points, INSETS[0]))
    if inside is None:
        return None
    gap, size = (at_bounds - inside).abs(), inside.abs()
    changed = (gap > _OTHER * size) & (gap > _SOME * size.flatten(1).amax(dim=1)[:, None, None, None])
    return INSETS[0] if _in_most(changed, (points == 0) | (points == 1), _FEW) else None


def _in_most(holds: torch.Tensor, among: torch.Tensor, share: float = 0.5) -> bool:
    """Whether ``holds`` is true for more than a share of the pixels ``among``, in most images with such pixels."""
    count = among.flatten(1).sum(dim=1)
    above = (holds & among).flatten(1).sum(dim=1) > share * count
    relevant = count > 0
    return bool(relevant.any()) and bool((above & relevant).sum() > relevant.sum() / 2)


def sample_points(images: torch.Tensor) -> torch.Tensor:
    """Makes images with pixels at the bounds: dataset images, the same in black and white, and patterns.

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
    """Whether the gradient is exactly 0 at all pixels near the bounds and at no other, and is not 0 well inside.

    Near means up to the farthest pixel with gradient 0, so that a clamp that cuts off a part of the range is included.

    Args:
        gradient: The gradient at these images, of their shape.
        images: Shape (batch, channels, height, width).
        slopes: A function from images of that shape to gradients.

    Returns:
        bool, shape (batch,).
    """
    distances = torch.minimum(images, 1 - images).flatten(1)
    alive = (gradient != 0).flatten(1)
    farthest = distances.masked_fill(alive, -1.0).amax(dim=1)
    nearest = distances.masked_fill(~alive, 1.0).amin(dim=1)
    flat = alive.any(dim=1) & (nearest > farthest) & ((~alive).float().mean(dim=1) >= _FEW)
    recovered = torch.zeros_like(flat)
    for inset in _WELL_INSIDE if flat.any() else ():
        recovered = recovered | ((slopes(_inside(images, inset)) != 0).flatten(1) & ~alive).any(dim=1)
    return flat & recovered


def _inside(images: torch.Tensor, inset: float) -> torch.Tensor:
    """Images with every pixel in [inset, 1 - inset], and the gradient of the images themselves."""
    return images + (images.detach().clamp(inset, 1 - inset) - images.detach())


def _slopes(classifier: torch.nn.Module, batch_size: int, points: torch.Tensor) -> torch.Tensor | None:
    """The gradient of a fixed random weighting of the logits; None if computing it raises an error."""
    gradients = []
    try:
        for rows in torch.split(torch.arange(len(points), device=points.device), batch_size):
            with torch.enable_grad():
                batch = points[rows].detach().clone().requires_grad_()
                logits = for_rows(classifier, rows)(batch)
            weights = torch.randn(logits.shape[1:], generator=torch.Generator().manual_seed(_SEED)).to(logits)
            gradients.append(torch.autograd.grad(logits, batch, weights.expand_as(logits))[0])
    except (RuntimeError, MissingGradientError) as error:
        if is_out_of_memory(error):
            raise
        return None
    return torch.cat(gradients)
