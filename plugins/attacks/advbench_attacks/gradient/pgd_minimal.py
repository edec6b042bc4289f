"""The smallest L∞ ball around an image in which projected gradient descent fools the model."""

from __future__ import annotations

import math

import torch

from advbench.api import SampleRandom, for_rows, is_stochastic
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import (
    Loss,
    each,
    fooled,
    lead,
    likeliest,
    logsumexp_margin,
    sign_gradient,
    towards,
)
from advbench_attacks.minimal.first_boundary import to_first_boundary
from advbench_attacks.minimal_steps import NearestPoints, confirmed

__all__ = ["FIRST", "BallSearch", "search_passes"]

FIRST = 0.3
"""The first eps tried, as a share of the largest (Foolbox 2.3, where the largest is 1)."""

GROWTH = 1.5
"""What eps is multiplied by until one succeeds (Foolbox 2.3)."""

_CREEP = 40
"""Steps along the boundary, or as many as a try has where these are more."""

_CLASSES = 3
"""Towards how many other classes the boundary is looked for where it is not said."""


_BEYOND = 1.05
"""How far a point is looked at, as a multiple of the way to the nearest boundary linearised at the clean image."""

_LOOKS = 8
"""How often the way to that point is halved."""


class BallSearch:
    """Searches the smallest eps of each sample: grows, bisects, then creeps along the model's boundary.

    1. Grow: PGD with eps .3 · max_eps, 1.5 times that and so on, until a point fools the model.
    2. Bisect: PGD half-way between the largest eps that failed and the distance of the nearest point found.
    3. Creep: gradient steps in a ball that shrinks below each point that fools the model and grows again after one
       that does not (Pintor, Roli, Brendel and Biggio 2021, Fast Minimum-norm Adversarial Attacks, algorithm 1,
       here with the signs of the gradients): from the nearest point found; from the clean image towards each of
       a few other classes; and once more from the nearest point. Small eps would take many steps: the way to the
       nearest boundary linearised at the clean image is searched before.

    Every try of PGD ends at its first point that fools the model, and its steps are in proportion to eps. The loss
    is log Σ_{j≠y} exp zⱼ − z_y: its gradient has the signs of the cross-entropy's, and does not vanish in float32
    where the model is sure.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        max_eps: The largest eps tried.
        rng: The samples' random streams, for starts drawn uniformly in the ball; None to start at the clean image.
        steps: Gradient steps a try.
        rate: Size of a step as a share of eps.
        bisections: How many times to bisect.
        targets: Towards how many of the likeliest other classes to creep; None: towards the three of the nine likeliest
            whose boundaries are the nearest, linearised at the clean image.

    Attributes:
        points: Per sample the nearest point found that fools the model, or the clean image.
        eps: Per sample its L∞ distance, or infinity.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        max_eps: float,
        *,
        rng: SampleRandom | None,
        steps: int,
        rate: float,
        bisections: int,
        targets: int | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.max_eps = max_eps
        self.rng = rng
        self.steps = steps
        self.rate = rate
        self.bisections = bisections
        self.targets = targets
        self.points = images.clone()
        self.eps = torch.full(labels.shape, math.inf, device=images.device)

    def run(self) -> torch.Tensor:
        """Searches.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or
            fooled nowhere within max_eps.
        """
        rows = (~fooled(self.model, self.images, self.labels)).nonzero().flatten()
        if not len(rows):
            return self.points
        failed = self._grow(rows)
        self._bisect(rows, failed)
        classes = self._classes(rows)
        self._creep(rows, self.points[rows], self.eps[rows], logsumexp_margin)
        for targets in classes:
            self._creep(rows, self.images[rows], self.eps[rows] / 2, towards(targets))
        self._creep(rows, self.points[rows], self.eps[rows], logsumexp_margin)
        found = self.eps.isfinite()
        return confirmed(self.model, self.points, self.images, self.labels, found=found, max_eps=self.max_eps)

    def _grow(self, rows: torch.Tensor) -> torch.Tensor:
        """Finds a first point for each of these samples; returns the largest eps that failed, 0 where none did."""
        failed = torch.zeros_like(self.eps)
        eps = FIRST * self.max_eps
        while len(rows):
            rows = rows[~self._descend(rows, torch.full((len(rows),), eps, device=rows.device))]
            failed[rows] = eps
            if eps >= self.max_eps:
                break
            eps = min(eps * GROWTH, self.max_eps)
        return failed

    def _bisect(self, rows: torch.Tensor, failed: torch.Tensor) -> None:
        """Brings eps and the largest that failed together, for those of these samples that have an eps."""
        rows = rows[self.eps[rows].isfinite()]
        failed = failed[rows]
        for _ in range(self.bisections if len(rows) else 0):
            # A point may lie nearer than an eps that failed: success does not grow with eps everywhere.
            middle = (failed.minimum(self.eps[rows]) + self.eps[rows]) / 2
            failed = torch.where(self._descend(rows, middle), failed, middle)

    def _descend(self, rows: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Tries PGD in balls of radius eps, one a sample; keeps the first points that fool and tells which do."""
        points = self.images[rows]
        if self.rng is not None:
            drawn = self.rng[rows].uniform(*points.shape[1:], low=-1.0, high=1.0).to(points.device)
            points = (points + each(eps) * drawn).clamp(0, 1)
        hit = torch.zeros_like(rows, dtype=torch.bool)
        going = torch.arange(len(rows), device=rows.device)
        for left in range(self.steps, -1, -1):
            if not len(going):
                break
            signs, logits = sign_gradient(
                for_rows(self.model, rows[going]), points, self.labels[rows[going]], logsumexp_margin
            )
            done = self._keep(rows[going], points, logits)
            hit[going[done]] = True
            going, points, signs = going[~done], points[~done], signs[~done]
            if left:
                points = self._stepped(rows[going], points, signs, eps[going], self.rate)
        return hit

    def _classes(self, rows: torch.Tensor) -> torch.Tensor:
        """The other classes of these samples to creep towards, in order: int64, shape (classes, samples).

        Where slopes tell them, the way to the nearest boundary that they tell of is searched, too.
        """
        among, images, labels = for_rows(self.model, rows), self.images[rows], self.labels[rows]
        if self.targets is None:
            first = to_first_boundary(among, images, labels, "linf", steps=search_passes(self.steps, self.bisections))
            if not is_stochastic(self.model):
                self._look_beside(rows, (images + _BEYOND * first.changes).clamp(0, 1))
            return first.classes[:, :_CLASSES].T
        with torch.no_grad():
            logits = ask(among, images)
        return likeliest(logits, labels, self.targets).T

    def _look_beside(self, rows: torch.Tensor, points: torch.Tensor) -> None:
        """Searches the ways from these samples' clean images to points for nearer ones that fool the model."""
        nearest = NearestPoints(self.images, self.labels, "linf")
        hit = rows[nearest.look_at(self.model, rows, points)]
        nearest.look_on_the_way(self.model, hit, _LOOKS)
        nearer = (nearest.distances < self.eps) & (nearest.distances <= self.max_eps)
        self.points[nearer] = nearest.points[nearer]
        self.eps[nearer] = nearest.distances[nearer]

    def _creep(self, rows: torch.Tensor, points: torch.Tensor, eps: torch.Tensor, loss: Loss) -> None:
        """Follows the boundary from these points, in balls of at first radius eps, to where it is nearest."""
        eps = eps.clamp(max=self.max_eps)
        steps = max(self.steps, _CREEP)
        for step in range(steps):
            decay = (1 + math.cos(math.pi * step / steps)) / 2
            change = 0.001 + 0.049 * decay
            rate = 0.01 + 0.29 * decay
            signs, logits = sign_gradient(for_rows(self.model, rows), points, self.labels[rows], loss)
            reached = _linf(points - self.images[rows])
            self._keep(rows, points, logits)
            shrunk = torch.minimum(eps, reached) * (1 - change)
            grown = torch.minimum(eps * (1 + change), self.eps[rows] * (1 - change / 2)).clamp(max=self.max_eps)
            eps = torch.where(lead(logits, self.labels[rows]), shrunk, grown)
            points = self._stepped(rows, points, signs, eps, rate)

    def _stepped(
        self, rows: torch.Tensor, points: torch.Tensor, signs: torch.Tensor, eps: torch.Tensor, rate: float
    ) -> torch.Tensor:
        """A step of PGD: along the signs, back into the ball, back into [0, 1]."""
        images, eps = self.images[rows], each(eps)
        return (images + (points + rate * eps * signs - images).clamp(-eps, eps)).clamp(0, 1)

    def _keep(self, rows: torch.Tensor, points: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keeps those points that fool the model and are the nearest so far; returns which fool it."""
        hit = lead(logits, self.labels[rows])
        eps = _linf(points - self.images[rows])
        nearer = hit & (eps < self.eps[rows])
        self.points[rows[nearer]] = points[nearer]
        self.eps[rows[nearer]] = eps[nearer]
        return hit


def search_passes(steps: int, bisections: int, targets: int | None = None) -> int:
    """About how many gradients an image takes: most of its bisections fail, and so take every step."""
    return steps * bisections + (2 + (targets or _CLASSES)) * max(steps, _CREEP)


def _linf(changes: torch.Tensor) -> torch.Tensor:
    """The largest change of each sample."""
    return changes.abs().flatten(1).amax(dim=1)
