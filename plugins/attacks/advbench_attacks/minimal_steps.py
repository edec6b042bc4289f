"""What minimal attacks share that take steps of a given length and remember the nearest point that fooled the model."""

from __future__ import annotations

import math

import torch

from advbench.api import Norm, for_rows
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import each, fooled, lead

__all__ = ["NearestPoints", "annealed", "confirmed", "scaling", "size", "unit"]

_ORDERS = {"l2": 2, "l1": 1}

_ALMOST_ONE = 0.9
"""Below the L2 norm of what has a largest value of 1, and so of all but what is 0 throughout."""

_SAFE = 1e-15
"""Squares neither vanish nor overflow in float32 where an L2 norm is between this and its inverse."""

_LOOKS = 12
"""How often the way to a nearer boundary is halved."""

_PUSHES = 8
_PUSH = 1.001
"""How often, and by how much at a time, a point is pushed that no longer fools the model in the whole batch."""

_ROUNDING = 1e-7
"""By what share of its image's L2 norm a point is pushed at first: about what rounding makes of sums over an image."""


class NearestPoints:
    """Of each sample the nearest point seen so far that fools the model.

    Args:
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        norm: The norm in which points are near: ``linf``, ``l2`` or ``l1``.

    Attributes:
        points: The nearest points, of the images' shape; the clean image where none was seen.
        distances: Their distances from the clean images, or infinity; shape (batch,).
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, norm: Norm) -> None:
        self.images = images
        self.labels = labels
        self.norm = norm
        self.points = images.clone()
        self.distances = torch.full(labels.shape, math.inf, device=images.device)

    def note(
        self,
        rows: torch.Tensor | None,
        points: torch.Tensor,
        logits: torch.Tensor,
        distances: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Keeps those of these samples' points that fool the model and are the nearest so far.

        Args:
            rows: Which samples they belong to, each at most once; None: all of them, in order, which is quicker.
            points: Shape (samples, channels, height, width).
            logits: What the model says of them.
            distances: How far they are from their clean images, where that is known: shape (samples,).

        Returns:
            Which of them fool the model: bool, shape (samples,).
        """
        hit = lead(logits, self.labels if rows is None else self.labels[rows])
        if distances is None:
            distances = size(points - (self.images if rows is None else self.images[rows]), self.norm)
        if rows is None:
            nearer = hit & (distances < self.distances)
            self.points = torch.where(each(nearer), points, self.points)
            self.distances = torch.where(nearer, distances, self.distances)
        else:
            self._keep(rows, points, distances, hit)
        return hit

    def look_at(self, model: torch.nn.Module, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Asks the model about these samples' points, and keeps them as :meth:`note` does."""
        if not len(rows):  # some networks cannot answer about no image
            return torch.zeros_like(rows, dtype=torch.bool)
        with torch.no_grad():
            return self.note(rows, points, ask(for_rows(model, rows), points))

    def take(self, rows: torch.Tensor, others: NearestPoints) -> None:
        """Keeps what is nearest among others' points, which are of these samples."""
        self._keep(rows, others.points, others.distances, others.distances.isfinite())

    def look_on_the_way(
        self, model: torch.nn.Module, rows: torch.Tensor, looks: int = _LOOKS, *, begin: float = 0.0
    ) -> None:
        """Halves the way from these samples' clean images to their nearest points, for points that are nearer.

        Args:
            model: Classifier in eval mode.
            rows: Which samples.
            looks: How often to halve it.
            begin: At what share of the way to begin.
        """
        images = self.images[rows]
        ways = self.points[rows] - images
        low, high = torch.full_like(self.distances[rows], begin), torch.ones_like(self.distances[rows])
        for _ in range(looks):
            middle = (low + high) / 2
            points = images + each(middle) * ways
            hit = self.look_at(model, rows, points)
            low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)

    def _keep(self, rows: torch.Tensor, points: torch.Tensor, distances: torch.Tensor, hit: torch.Tensor) -> None:
        nearer = hit & (distances < self.distances[rows])
        self.points[rows[nearer]] = points[nearer]
        self.distances[rows[nearer]] = distances[nearer]

    def confirmed(self, model: torch.nn.Module) -> torch.Tensor:
        """The nearest points, each misclassified in the whole batch; the clean image where there is none."""
        return confirmed(model, self.points, self.images, self.labels, found=self.distances.isfinite())


def confirmed(
    model: torch.nn.Module,
    points: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    found: torch.Tensor,
    max_eps: float = 1.0,
) -> torch.Tensor:
    """Holds points to this: that they fool the model in the whole batch, not only in the one that they were found in.

    Each point is pushed outwards by as little as rounding may move a boundary in another batch; without that where
    it would undo what was found, and where another batch's rounding makes more of a difference, by a little more, a
    few times at most. A point that has held once is not judged again: behind a stochastic defense it would be by
    other draws, as often as the rest of its batch needs.

    Args:
        model: Classifier in eval mode.
        points: Images of shape (batch, channels, height, width); changed in place.
        images: Clean images, of the same shape.
        labels: True labels, int64, shape (batch,).
        found: Which of the points were seen to fool the model: bool, shape (batch,).
        max_eps: The largest change of a pixel.

    Returns:
        The points; the clean image where the model was not fooled again, or never.
    """
    exact, changes, lost = points.clone(), points - images, found.clone()
    share = _ROUNDING * size(images, "l2") / size(changes, "l2").clamp(min=torch.finfo(images.dtype).tiny)
    shares = torch.full_like(share, _PUSH)
    for factors in (1 + share, None, *(shares**times for times in range(1, _PUSHES + 1))):
        if not lost.any():
            break
        points[lost] = exact[lost]
        if factors is not None:
            change = (each(factors) * changes)[lost].clamp(-max_eps, max_eps)
            points[lost] = (images[lost] + change).clamp(0, 1)
        lost = lost & ~fooled(model, points, labels)
    points[lost] = images[lost]
    return points


def size(changes: torch.Tensor, norm: str) -> torch.Tensor:
    """The norm of each sample's change, over all pixels and channels; shape (batch,)."""
    if norm == "linf":
        return changes.abs().flatten(1).amax(dim=1)  # several times as quick as vector_norm
    norms: torch.Tensor = torch.linalg.vector_norm(changes.flatten(1), _ORDERS[norm], dim=1)
    return norms


def unit(changes: torch.Tensor) -> torch.Tensor:
    """Each sample's change at L2 norm 1; 0 where it is 0."""
    # Squares of what is tiny or huge would round to 0 or infinity.
    scaled = changes / each(size(changes, "linf").clamp(min=torch.finfo(changes.dtype).tiny))
    return scaled.div_(each(size(scaled, "l2").clamp(min=_ALMOST_ONE)))


def scaling(changes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Changes, and what each has to be multiplied by for an L2 norm of 1: their :func:`unit` in fewer passes.

    Where that would be no number, or inexact, the changes come back as the units themselves, 0 where they are 0.

    Returns:
        Changes of the same shape, and the factors, shape (batch,).
    """
    lengths = size(changes, "l2")
    if ((lengths > _SAFE) & (lengths < 1 / _SAFE)).all():
        return changes, lengths.reciprocal()
    return unit(changes.nan_to_num(0.0)), torch.ones_like(lengths)


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """What falls from first to last along half a wave of the cosine; ``step`` is one of 0 … steps − 1."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2
