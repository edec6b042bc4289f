"""What an attack does with the classifier, noted while it runs, and what its gradients are like."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Budget, for_rows, is_stochastic
from advbench.contracts.images import TOLERANCE, distances
from advbench.errors import ContractError, blamed, describe
from advbench.evaluation.work.box_slopes import flat_at_bounds
from advbench.process.memory import is_shortage

__all__ = ["CleanBaseline", "QueryLog", "RecordingClassifier", "Slopes", "clean_slopes"]


class Slopes(NamedTuple):
    """What a classifier's gradients at clean images are like; each of shape (batch,), bool.

    Attributes:
        vanished: Whose gradient is exactly 0 throughout.
        no_number: Whose gradient holds a NaN or an infinity.
        flat: Whose gradient is exactly 0 at the pixels that are 0 or 1 alone; see :func:`bounds.flat_at_bounds`.
        fault: What asking for a gradient raised, or nothing.
    """

    vanished: torch.Tensor
    no_number: torch.Tensor
    flat: torch.Tensor
    fault: str


class CleanBaseline(NamedTuple):
    """What a classifier is like on clean images.

    Attributes:
        predictions: Their classes, int64, shape (batch,).
        slopes: Its gradients there.
    """

    predictions: torch.Tensor
    slopes: Slopes


class QueryLog:
    """What was seen of one batch under attack.

    Args:
        images: The clean images.
        labels: Their labels.
        budget: The attack's budget, or None for a minimal attack.

    Attributes:
        seen: Per sample, whether a point within the budget was misclassified on the way.
        images_asked: How many images the classifier was given in all.
        followed: Per sample, 1 where the attack has asked for a gradient, else 0; int8.
        sloped: Per sample, 1 where one of the losses that it followed had a slope in the logits, else 0; int8.
    """

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, budget: Budget | None) -> None:
        self.images = images
        self.labels = labels
        self.budget = budget
        self.seen = torch.zeros_like(labels, dtype=torch.bool)
        self.images_asked = 0
        self.followed = torch.zeros_like(labels, dtype=torch.int8)
        self.sloped = torch.zeros_like(self.followed)

    @property
    def blind(self) -> torch.Tensor:
        """Whose loss had no slope whenever the attack asked for one, as a saturated cross-entropy: bool, (batch,)."""
        return (self.followed > 0) & (self.sloped == 0)

    def watch_slopes(self, rows: torch.Tensor, logits: object) -> None:
        """QueryLog of these samples whether the loss that is followed back through the logits has a slope there."""
        if not isinstance(logits, torch.Tensor) or not logits.requires_grad or logits.ndim != 2:
            return

        def note(gradient: torch.Tensor) -> None:  # without waiting for the device
            sloped = (gradient != 0).any(dim=1).to(torch.int8)
            self.sloped.scatter_reduce_(0, rows, sloped, "amax")
            self.followed.index_fill_(0, rows, 1)

        if len(logits) == len(rows):
            logits.register_hook(note)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def take(self, rows: torch.Tensor | None, points: torch.Tensor, logits: object) -> None:
        """QueryLog one answer; ``rows`` is None where it is not known whose points these are."""
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


class RecordingClassifier(torch.nn.Module):
    """A classifier whose answers are noted.

    Args:
        target: The classifier.
        notes: Where they are noted.
        label: What messages call the model in it.
        rows: To which samples of the batch its images belong; None where they are all.
    """

    def __init__(self, target: torch.nn.Module, notes: QueryLog, label: str, rows: torch.Tensor | None = None) -> None:
        super().__init__()
        self.training = False
        self.label = label
        self.target = target
        self.notes = notes
        self._rows = rows
        self.stochastic = is_stochastic(target)

    def for_rows(self, rows: torch.Tensor) -> RecordingClassifier:
        """The classifier for some of the samples; see :func:`advbench.api.for_rows`."""
        mine = rows if self._rows is None else self._rows[rows]
        return RecordingClassifier(for_rows(self.target, rows), self.notes, self.label, mine)

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
        known = rows if rows is not None and len(rows) == len(images) else None
        self.notes.take(known, images, logits)
        if known is not None:
            self.notes.watch_slopes(known, logits)
        return logits


def clean_slopes(target: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Slopes:
    """What the gradients at clean images are like, of a loss that does not saturate.

    The loss is the largest logit of another class minus that of the true one.

    Args:
        target: The classifier that is attacked.
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
        slopes = gradient(images)
        flat = flat_at_bounds(slopes, images, gradient)
    except RuntimeError as error:
        if is_shortage(error):
            raise
        no = torch.zeros_like(labels, dtype=torch.bool)
        return Slopes(~no, no, no, describe(error))
    no_number = ~slopes.isfinite().flatten(1).all(dim=1)
    vanished = (slopes == 0).flatten(1).all(dim=1)
    return Slopes(vanished, no_number, flat & ~no_number, "")
