"""The limit of ``--max-queries``: answers beyond it count for nothing; an attack ends once all samples are spent."""

from __future__ import annotations

import math

import torch

from advbench.api import Goal
from advbench.api.devices import widest_float
from advbench.evaluation.work.attacked.query_meter import earlier_repeats

__all__ = ["NotLimitable", "QueryLimit"]


class NotLimitable(BaseException):
    """Ends an attack that cannot be held to a limit; its text is the reason."""


class QueryLimit:
    """Limits the forwards and the backwards of each sample, and keeps each sample's result within the limit.

    Args:
        most: The largest number of forwards, and of backwards.
        images: The clean images.
        goal: What the attack should make of them.
        keep_last: Whether a sample without a success gets its last point in the set, instead of its clean image.

    Attributes:
        most: The limit.
        spent: Whether a sample has asked for more; bool, shape (batch,).
        attacked_rows: The samples of the present run of the attack.
    """

    def __init__(self, most: int, images: torch.Tensor, goal: Goal, *, keep_last: bool) -> None:
        self.most = most
        self.spent = torch.zeros_like(goal.labels, dtype=torch.bool)
        self.attacked_rows = torch.arange(len(goal), device=goal.labels.device)
        self._goal = goal
        self._nearest, self._last = images.clone(), images.clone() if keep_last else images
        self._keep_last = keep_last
        self._sizes = torch.full_like(goal.labels, math.inf, dtype=widest_float(images.device))

    def all_spent(self, rows: torch.Tensor | None = None) -> bool:
        """Whether all of these samples are spent; by default, all of the present run."""
        return bool(self.spent[self.attacked_rows if rows is None else rows].all())

    def allowed(self, rows: torch.Tensor, before: torch.Tensor, draws: int) -> torch.Tensor:
        """Which images of a call are within the limit; the samples of the others are spent.

        Args:
            rows: The samples of the images.
            before: The forwards of each sample before the call, or the backwards of each before a gradient.
            draws: The number of draws of the call.

        Returns:
            bool, shape (images,).
        """
        needed = before[rows] + (earlier_repeats(rows) + 1) * draws
        allowed = (needed <= self.most) & ~self.spent[rows]
        refused = torch.zeros_like(self.spent, dtype=torch.int8)
        self.spent = self.spent | (refused.scatter_reduce_(0, rows, (~allowed).to(torch.int8), "amax") > 0)
        return allowed

    def refusal(self, rows: torch.Tensor, images: torch.Tensor, classes: int) -> torch.Tensor:
        """Logits for images beyond the limit: the goal is reached, so that an attack that stops there stops.

        Args:
            rows: The samples of the images.
            images: The images, to which the logits are connected with a gradient of 0.
            classes: The number of classes.

        Returns:
            float32, shape (images, classes).
        """
        goal = self._goal[rows]
        classes_reached = (goal.labels + 1) % classes if goal.targets is None else goal.targets
        logits = torch.nn.functional.one_hot(classes_reached, classes).to(torch.float32)
        return logits + images.flatten(1).sum(dim=1, keepdim=True) * 0

    def record(
        self, rows: torch.Tensor, points: torch.Tensor, inside: torch.Tensor, reached: torch.Tensor, sizes: torch.Tensor
    ) -> None:
        """Keeps each sample's nearest point in the set that reached the goal, the earliest of several, and its last.

        Args:
            rows: The samples of the points.
            points: Points within the limit, shape (points, channels, height, width).
            inside: Which points are in the set.
            reached: Which points reached the goal.
            sizes: Their sizes; float64, shape (points,).
        """
        points, places = points.to(self._last.dtype), torch.arange(len(rows), device=rows.device)
        if self._keep_last:
            last = rows.new_full(self.spent.shape, -1).scatter_reduce_(0, rows, places.masked_fill(~inside, -1), "amax")
            _take(self._last, points, last, last >= 0)
        sizes = sizes.masked_fill(~(inside & reached), math.inf)
        smallest = self._sizes.scatter_reduce(0, rows, sizes, "amin")
        nearer = (sizes < self._sizes[rows]) & (sizes == smallest[rows])
        none = len(rows)
        first = rows.new_full(self.spent.shape, none).scatter_reduce_(
            0, rows, places.masked_fill(~nearer, none), "amin"
        )
        _take(self._nearest, points, first, first < none)
        self._sizes = smallest

    def result(self) -> torch.Tensor:
        """The images of the samples that are spent; those of the others have no meaning."""
        return torch.where(self._sizes.isfinite()[:, None, None, None], self._nearest, self._last)


def _take(kept: torch.Tensor, points: torch.Tensor, places: torch.Tensor, found: torch.Tensor) -> None:
    """Sets ``kept[found]`` to ``points[places[found]]``, without waiting for an accelerator."""
    if kept.device.type == "cpu":
        kept[found] = points[places[found]]
    elif len(points):
        taken = points[places.clamp(0, len(points) - 1)]
        kept.copy_(torch.where(found[:, None, None, None], taken, kept))
