"""What the attacks of Foolbox 2.3.0 share: which samples they run on, and which point they return."""

from __future__ import annotations

import torch

from advbench.api import for_rows
from advbench_attacks.active_sets import store_where
from advbench_attacks.classifier_calls import float32_logits

__all__ = ["NearestInL2", "correct_rows", "logits_at"]


def logits_at(model: torch.nn.Module, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Returns the logits of points that belong to these samples, without a gradient."""
    with torch.no_grad():
        return float32_logits(for_rows(model, rows), points)


def correct_rows(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns the indices of the samples that are classified correctly. An attack does not run on the others."""
    rows = torch.arange(len(images), device=images.device)
    return rows[logits_at(model, rows, images).argmax(dim=1) == labels]


class NearestInL2:
    """The misclassified point of each sample that is nearest in L2, whatever the attack.

    Args:
        images: Clean images, shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).

    Attributes:
        points: The points; the clean image where there is none.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.images = images
        self.labels = labels
        self.points = images.clone()
        self._distances = torch.full(labels.shape, float("inf"), device=images.device)

    def update(self, rows: torch.Tensor, points: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Keeps the points that are misclassified and nearer.

        Returns:
            Which points are misclassified: bool, shape (samples,).
        """
        misclassified = logits.argmax(dim=1) != self.labels[rows]
        distances = (points - self.images[rows]).flatten(1).norm(dim=1)
        kept = misclassified & (distances < self._distances[rows])
        store_where(kept, rows, (self.points, points), (self._distances, distances))
        return misclassified
