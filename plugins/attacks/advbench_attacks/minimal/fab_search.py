"""The search of FAB: steps to a linearised boundary that are drawn back towards the clean image."""

from __future__ import annotations

import torch

from advbench.api import Norm, for_rows
from advbench_attacks.answers import ask
from advbench_attacks.halfspaces import to_boundary
from advbench_attacks.input_gradients import clear_margin, each, fooled, input_gradient, likeliest, towards
from advbench_attacks.minimal_steps import NearestPoints, size

__all__ = ["AdaptiveBoundary"]

_BIAS = 0.1
"""Largest share α_max of the clean image's own step in a step."""

_OVERSHOOT = 1.05
"""How far η a step goes, as a multiple of the way to the boundary."""

_BACKWARD = 0.9
"""What share β of its way from the clean image a point keeps that fools the model."""

_LOOKS = 3
"""How many points between the clean image and the nearest one found are looked at in the end."""

_BEYOND = 0.01
"""By what share of the rest of the way such a look is beyond where the boundary is expected."""


class AdaptiveBoundary:
    """Searches, for one target class after another, the nearest point that fools the model.

    Each step goes to the linearised boundary z_t = z_y within [0, 1], partly from the point reached and partly from
    the clean image; where it fools the model, the next one begins nearer to the clean image. In the end the way to
    each sample's nearest point is searched for the boundary by linear interpolation. The algorithm is number 1 of
    Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, in the
    targeted form of their Reliable evaluation of adversarial robustness (2020), without restarts.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Steps a target class.
        targets: How many classes, the likeliest at the clean image first, the true one left out.
        norm: ``linf`` or ``l2``.
        eps: A distance that is near enough: a sample that has a point within it leaves the search. None: no such.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        steps: int,
        targets: int,
        norm: Norm,
        eps: float | None = None,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.steps = steps
        self.targets = targets
        self.norm = norm
        self.eps = -1.0 if eps is None else eps
        self.nearest = NearestPoints(images, labels, norm)

    def run(self) -> torch.Tensor:
        """Searches.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or for
            which nothing was found. With eps, a point beyond it is returned where none within it was found.
        """
        with torch.no_grad():
            logits = ask(self.model, self.images)
        right = logits.argmax(dim=1) == self.labels
        for targets in likeliest(logits, self.labels, self.targets).T:
            rows = (right & (self.nearest.distances > self.eps)).nonzero().flatten()
            self._approach(rows, targets[rows])
        far = self.nearest.distances.isfinite() & (self.nearest.distances > self.eps)
        rows = far.nonzero().flatten()
        self._interpolate(rows, clear_margin(logits, self.labels)[rows])
        if self.eps < 0:
            return self.nearest.confirmed(self.model)
        found = self.nearest.points
        lost = ~fooled(self.model, found, self.labels)
        return torch.where(each(lost), self.images, found)

    def _approach(self, rows: torch.Tensor, targets: torch.Tensor) -> None:
        """Takes the steps of these samples towards one class each."""
        points = self.images[rows]
        for _ in range(self.steps):
            if not len(rows):
                return
            model, labels = for_rows(self.model, rows), self.labels[rows]
            points = self._step(model, points, self.images[rows], labels, targets)
            with torch.no_grad():
                logits = ask(model, points)
            self.nearest.note(rows, points, logits)
            # Points barely across are none to keep, since rounding may undo them; but without a step back they
            # would stay where they are, all later steps being as short.
            across = each(logits.argmax(dim=1) != labels)
            points = torch.where(across, torch.lerp(self.images[rows], points, _BACKWARD), points)
            if self.eps >= 0:
                going = self.nearest.distances[rows] > self.eps
                rows, targets, points = rows[going], targets[going], points[going]

    def _step(
        self,
        model: torch.nn.Module,
        points: torch.Tensor,
        images: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor,
    ) -> torch.Tensor:
        """Where the samples are after a step; all arguments have one row a sample."""
        rise = towards(targets)
        normals, logits = input_gradient(model, points, labels, rise)
        offsets = rise(logits, labels).nan_to_num(0.0)
        clean_offsets = offsets + (normals * (images - points)).flatten(1).sum(dim=1)
        changes, clean_changes = to_boundary(
            torch.cat((points, images)), normals.repeat(2, 1, 1, 1), torch.cat((offsets, clean_offsets)), self.norm
        ).chunk(2)
        way, clean_way = size(changes, self.norm), size(clean_changes, self.norm)
        bias = each((way / (way + clean_way).clamp(min=torch.finfo(way.dtype).tiny)).clamp(max=_BIAS))
        stepped = torch.lerp(points + _OVERSHOOT * changes, images + _OVERSHOOT * clean_changes, bias)
        return stepped.clamp(0, 1)

    def _interpolate(self, rows: torch.Tensor, behind: torch.Tensor) -> None:
        """Searches the way from these samples' clean images, whose margins are given, to their nearest points."""
        if not len(rows):
            return
        images, labels, model = self.images[rows], self.labels[rows], for_rows(self.model, rows)
        ways = self.nearest.points[rows] - images
        with torch.no_grad():
            ahead = clear_margin(ask(model, images + ways), labels)
        low, high = torch.zeros_like(ahead), torch.ones_like(ahead)
        for _ in range(_LOOKS):
            share = (behind / (behind - ahead)).nan_to_num(0.0).clamp(0, 1)
            at = low + (high - low) * (share + _BEYOND * (1 - share))
            points = (images + each(at) * ways).clamp(0, 1)
            with torch.no_grad():
                logits = ask(model, points)
            hit, found = self.nearest.note(rows, points, logits), clear_margin(logits, labels)
            low, behind = torch.where(hit, low, at), torch.where(hit, behind, found)
            high, ahead = torch.where(hit, at, high), torch.where(hit, found, ahead)
