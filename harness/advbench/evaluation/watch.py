"""What an attack does with the classifier, noted while it runs, and what its gradients are like."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Budget, for_rows, is_stochastic
from advbench.errors import ContractError, blamed, describe
from advbench.evaluation.contracts import TOLERANCE, distances

__all__ = ["Notes", "Unattacked", "Watched", "vanishing"]


class Unattacked(NamedTuple):
    """What a classifier is like on clean images.

    Attributes:
        predictions: Their classes, int64, shape (batch,).
        vanished: Whose gradient is zero, bool, shape (batch,).
        fault: What asking for a gradient raised, or nothing.
    """

    predictions: torch.Tensor
    vanished: torch.Tensor
    fault: str


class Notes:
    """What was seen of one batch under attack.

    Args:
        images: The clean images.
        labels: Their labels.
        budget: The attack's budget, or None for a minimal attack.

    Attributes:
        seen: Per sample, whether a point within the budget was misclassified on the way.
        images_asked: How many images the classifier was given in all.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, budget: Budget | None) -> None:
        self.images = images
        self.labels = labels
        self.budget = budget
        self.seen = torch.zeros_like(labels, dtype=torch.bool)
        self.images_asked = 0

    @torch.no_grad()
    def take(self, rows: torch.Tensor | None, points: torch.Tensor, logits: object) -> None:
        """Notes one answer; ``rows`` is None where it is not known whose points these are."""
        self.images_asked += len(points)
        if rows is None or not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(rows):
            return
        wrong = (logits.argmax(dim=1) != self.labels[rows]) & ~self.seen[rows]
        if not wrong.any():
            return
        rows, points = rows[wrong], points.detach()[wrong]
        valid = ((points >= -TOLERANCE) & (points <= 1 + TOLERANCE)).flatten(1).all(dim=1)
        if self.budget is not None:
            reach = self.budget.eps * (1 + TOLERANCE) + TOLERANCE
            valid &= distances(self.images[rows], points, self.budget) <= reach
        self.seen[rows[valid]] = True


class Watched(torch.nn.Module):
    """A classifier whose answers are noted.

    Args:
        target: The classifier.
        notes: Where they are noted.
        label: What messages call the model in it.
        rows: To which samples of the batch its images belong; None where they are all.
    """

    def __init__(self, target: torch.nn.Module, notes: Notes, label: str, rows: torch.Tensor | None = None) -> None:
        super().__init__()
        self.training = False
        self.label = label
        self.target = target
        self.notes = notes
        self._rows = rows
        self.stochastic = is_stochastic(target)

    def for_rows(self, rows: torch.Tensor) -> Watched:
        """The classifier for some of the samples; see :func:`advbench.api.for_rows`."""
        mine = rows if self._rows is None else self._rows[rows]
        return Watched(for_rows(self.target, rows), self.notes, self.label, mine)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's answer.

        Raises:
            ContractError: It changed the images.
        """
        version = images._version
        with blamed(self.label):
            logits: torch.Tensor = self.target(images)
        if images._version != version:
            raise ContractError(f"{self.label} changed its input images in place; components work on a copy")
        rows = self._rows
        if rows is None and len(images) == len(self.notes.labels):
            rows = torch.arange(len(images), device=images.device)
        self.notes.take(rows if rows is not None and len(rows) == len(images) else None, images, logits)
        return logits


def vanishing(target: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, str]:
    """Which samples' gradients are all zero or no number at the clean image, of a loss that does not saturate.

    The loss is the largest logit of another class minus that of the true one.

    Returns:
        bool, shape (batch,); and what the classifier raised when a gradient was asked, or nothing.
    """
    try:
        with torch.enable_grad():
            points = images.detach().clone().requires_grad_()
            logits = target(points)
            true = logits.gather(1, labels[:, None])[:, 0]
            others = logits.scatter(1, labels[:, None], -math.inf).amax(dim=1)
            (gradient,) = torch.autograd.grad((others - true).sum(), points)
    except RuntimeError as error:
        return torch.ones_like(labels, dtype=torch.bool), describe(error)
    return ~(gradient.flatten(1).abs().sum(dim=1) > 0), ""
