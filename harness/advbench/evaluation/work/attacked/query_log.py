"""Records an attack's queries to the classifier, and the classifier's gradients at clean images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Budget, ClassifierWrapper, Goal
from advbench.contracts.images import TOLERANCE, distances
from advbench.errors import ContractError, blamed, describe
from advbench.evaluation.work.attacked.gradients_at_bounds import flat_at_bounds
from advbench.process.memory import is_out_of_memory

__all__ = ["CleanBaseline", "Gradients", "QueryLog", "RecordingClassifier", "clean_gradients"]


class Gradients(NamedTuple):
    """Properties of a classifier's gradients at clean images; tensors are bool, shape (batch,).

    Attributes:
        vanished: Whether the gradient is exactly 0 everywhere.
        non_finite: Whether the gradient contains NaN or infinity.
        flat_at_bounds: Whether the gradient is exactly 0 at the pixels near 0 or 1 and at no other; see
            :func:`~advbench.evaluation.work.attacked.gradients_at_bounds.flat_at_bounds`.
        error: The error of computing the gradient, or "".
    """

    vanished: torch.Tensor
    non_finite: torch.Tensor
    flat_at_bounds: torch.Tensor
    error: str


class CleanBaseline(NamedTuple):
    """A classifier on clean images, before any attack.

    Attributes:
        predictions: The predicted classes, int64, shape (batch,).
        gradients: Properties of its gradients.
    """

    predictions: torch.Tensor
    gradients: Gradients


class QueryLog:
    """The queries of an attack on one batch.

    Args:
        images: The clean images.
        goal: What the attack should make of them; a target class of -1 is never reached.
        budget: The attack's budget, or None for a minimal attack.

    Attributes:
        seen: Whether a queried point within the budget reached the goal; bool, shape (batch,).
        queried_images: How many images the classifier got in all.
        followed: 1 if the attack has computed a gradient for the sample, else 0; int8, shape (batch,).
        sloped: 1 if one of these losses had a gradient in the logits, else 0; int8, shape (batch,).
    """

    def __init__(self, images: torch.Tensor, goal: Goal, budget: Budget | None) -> None:
        self.images = images
        self.goal = goal
        self.budget = budget
        self.seen = torch.zeros_like(goal.labels, dtype=torch.bool)
        self.queried_images = 0
        self.followed = torch.zeros_like(goal.labels, dtype=torch.int8)
        self.sloped = torch.zeros_like(self.followed)

    @property
    def loss_without_slope(self) -> torch.Tensor:
        """Whether every loss that the attack followed was flat in the logits, as a saturated cross-entropy is.

        bool, shape (batch,).
        """
        return (self.followed > 0) & (self.sloped == 0)

    def record_gradients(self, rows: torch.Tensor, logits: object) -> None:
        """Records for these samples whether the loss that is backpropagated has a gradient in the logits."""
        if not isinstance(logits, torch.Tensor) or not logits.requires_grad or logits.ndim != 2:
            return

        def record(gradient: torch.Tensor) -> None:  # does not wait for the device
            sloped = (gradient != 0).any(dim=1).to(torch.int8)
            self.sloped.scatter_reduce_(0, rows, sloped, "amax")
            self.followed.index_fill_(0, rows, 1)

        if len(logits) == len(rows):
            logits.register_hook(record)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def record_query(self, rows: torch.Tensor | None, points: torch.Tensor, logits: object) -> None:
        """Records one query; ``rows`` is None if it is unknown to which samples the points belong."""
        self.queried_images += len(points)
        if rows is None or not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(rows):
            return
        reached = self.goal[rows].reached(logits) & ~self.seen[rows]
        if not reached.any():
            return
        rows, points = rows[reached], points.detach()[reached]
        valid = ((points >= -TOLERANCE) & (points <= 1 + TOLERANCE)).flatten(1).all(dim=1)
        if self.budget is not None:
            reach = self.budget.eps * (1 + TOLERANCE) + TOLERANCE
            valid &= distances(self.images[rows], points, self.budget) <= reach
        self.seen[rows[valid]] = True


class RecordingClassifier(ClassifierWrapper):
    """A classifier that records the queries it gets.

    Args:
        target: The classifier.
        log: Where queries are recorded.
        label: What messages call the model.
        rows: The samples of the batch to which the images belong; None for all.
    """

    def __init__(self, target: torch.nn.Module, log: QueryLog, label: str, rows: torch.Tensor | None = None) -> None:
        super().__init__(target)
        self.label = label
        self.log = log
        self._rows = rows

    def for_rows(self, rows: torch.Tensor) -> RecordingClassifier:
        """The classifier for some of the samples; see :func:`advbench.api.for_rows`."""
        part = super().for_rows(rows)
        part._rows = rows if self._rows is None else self._rows[rows]
        return part

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's logits.

        Raises:
            ContractError: The classifier changed the images.
        """
        version = images._version
        with blamed(self.label):
            logits: torch.Tensor = self.target(images)
        if images._version != version:
            raise ContractError(f"{self.label} changed its input images in place; components work on a copy")
        rows = self._rows
        if rows is None and len(images) == len(self.log.goal):
            rows = torch.arange(len(images), device=images.device)
        known_rows = rows if rows is not None and len(rows) == len(images) else None
        self.log.record_query(known_rows, images, logits)
        if known_rows is not None:
            self.log.record_gradients(known_rows, logits)
        return logits


def clean_gradients(target: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Gradients:
    """Computes the gradients at clean images of a loss that does not saturate.

    The loss is the largest logit of another class minus the logit of the true class.

    Args:
        target: The attacked classifier.
        images: Shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
    """

    def gradient(at: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            points = at.detach().clone().requires_grad_()
            logits = target(points)
            true = logits.gather(1, labels[:, None])[:, 0]
            others = logits.scatter(1, labels[:, None], -math.inf).amax(dim=1)
            return torch.autograd.grad((others - true).sum(), points)[0]

    try:
        gradients = gradient(images)
        flat = flat_at_bounds(gradients, images, gradient)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        none = torch.zeros_like(labels, dtype=torch.bool)
        return Gradients(~none, none, none, describe(error))
    non_finite = ~gradients.isfinite().flatten(1).all(dim=1)
    vanished = (gradients == 0).flatten(1).all(dim=1)
    return Gradients(vanished, non_finite, flat & ~non_finite, "")
