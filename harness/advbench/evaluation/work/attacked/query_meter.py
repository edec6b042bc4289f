"""Counts, for each sample, what an attack sends through the classifier, and when it first succeeds."""

from __future__ import annotations

import math

import torch

from advbench.analysis.queries import CHECKPOINTS
from advbench.api.devices import widest_float

__all__ = ["QueryMeter", "earlier_repeats"]

_NEVER = torch.iinfo(torch.int64).max


class QueryMeter:
    """The queries of an attack on one batch, counted on the device without waiting for it.

    A *forward* is one image in one draw of the defense that the attack sends through the classifier; a *backward* is
    the same for a gradient. A call of the classifier with b images and m draws has b · m forwards.

    Args:
        like: A tensor of the batch's length and device.
        sizes: Whether the best sizes at :data:`~advbench.analysis.queries.CHECKPOINTS` are recorded, as for a minimal
            attack.

    Attributes:
        total_forwards: The forwards of all samples, also of images whose samples are unknown.
        known: Whether the sample of every image was known, so that the numbers for each sample are complete.
    """

    def __init__(self, like: torch.Tensor, *, sizes: bool) -> None:
        self.total_forwards = 0
        self._total_backwards: int | torch.Tensor = 0
        self.known = True
        self._forwards = torch.zeros_like(like, dtype=torch.int64)
        self._backwards = torch.zeros_like(self._forwards)
        self._whole_forwards, self._whole_backwards = 0, 0  # those of calls with the whole batch
        self._first = torch.full_like(self._forwards, _NEVER)
        columns = len(CHECKPOINTS) + 1  # the last one is for successes after the last checkpoint
        wide = widest_float(like.device)
        self._best = self._first.new_full((len(like), columns), math.inf, dtype=wide) if sizes else None
        self._checkpoints = torch.tensor(CHECKPOINTS, device=like.device) if sizes else None

    @property
    def total_backwards(self) -> int:
        """The backwards of all samples."""
        return int(self._total_backwards)

    @property
    def forwards(self) -> torch.Tensor:
        """The forwards of each sample: int64, shape (batch,)."""
        return self._forwards + self._whole_forwards

    @property
    def backwards(self) -> torch.Tensor:
        """The backwards of each sample: int64, shape (batch,)."""
        return self._backwards + self._whole_backwards

    @property
    def seen(self) -> torch.Tensor:
        """Whether a point in the set reached the goal: bool, shape (batch,)."""
        return self._first < _NEVER

    @property
    def first_success(self) -> torch.Tensor:
        """Forwards until a point in the set reached the goal, that point included, else -1: int64, shape (batch,)."""
        return torch.where(self.seen, self._first, -1)

    @property
    def best_sizes(self) -> torch.Tensor | None:
        """The smallest size that reached the goal within each of :data:`CHECKPOINTS`, infinite if none did.

        float64, shape (batch, checkpoints); None unless sizes are recorded.
        """
        return None if self._best is None else self._best[:, :-1].cummin(dim=1).values

    def count_forwards(self, rows: torch.Tensor | None, images: int, draws: int) -> None:
        """Counts the forwards of a call.

        Args:
            rows: The samples of the images, which may repeat; None for each sample once.
            images: How many images the call has.
            draws: How many draws.
        """
        self.total_forwards += images * draws
        if rows is None:
            self._whole_forwards += draws
        else:
            self._forwards.index_add_(0, rows, torch.ones_like(rows), alpha=draws)

    def count_backwards(
        self, rows: torch.Tensor | None, images: int, draws: int, counted: torch.Tensor | None = None
    ) -> None:
        """Counts the backwards of a gradient.

        Args:
            rows: As for :meth:`count_forwards`, as are the next two.
            images: How many images there are.
            draws: How many draws.
            counted: Which of the images count, bool, shape (images,), together with rows; None for all.
        """
        self._total_backwards = self._total_backwards + (images if counted is None else counted.sum()) * draws
        if rows is None:
            self._whole_backwards += draws
        else:
            ones = torch.ones_like(rows) if counted is None else counted.to(rows.dtype)
            self._backwards.index_add_(0, rows, ones, alpha=draws)

    def count_unknown(self, images: int, draws: int) -> None:
        """Counts the forwards of a call whose samples are unknown."""
        self.known = False
        self.total_forwards += images * draws

    def spent_at(self, rows: torch.Tensor | None, draws: int) -> torch.Tensor:
        """The forwards of each point's sample up to this point, for the points of the call counted last.

        Args:
            rows: As for :meth:`count_forwards`.
            draws: As for :meth:`count_forwards`.

        Returns:
            int64, shape (points,).
        """
        if rows is None:
            return self.forwards
        later = earlier_repeats(rows.flip(0)).flip(0)
        return self.forwards[rows] - draws * later

    def record_successes(
        self, rows: torch.Tensor, forwards: torch.Tensor, succeeded: torch.Tensor, sizes: torch.Tensor | None
    ) -> None:
        """Records points in the set that reached the goal.

        Args:
            rows: The samples of some points; int64, shape (points,).
            forwards: The result of :meth:`spent_at` for these points.
            succeeded: Which of them are in the set and reached the goal; bool, shape (points,).
            sizes: Their sizes, if they are recorded; float64, shape (points,).
        """
        self._first.scatter_reduce_(0, rows, forwards.masked_fill(~succeeded, _NEVER), "amin")
        if self._best is None or self._checkpoints is None or sizes is None:
            return
        places = rows * self._best.shape[1] + torch.bucketize(forwards, self._checkpoints)
        self._best.view(-1).scatter_reduce_(0, places, sizes.masked_fill(~succeeded, math.inf), "amin")


def earlier_repeats(rows: torch.Tensor) -> torch.Tensor:
    """How many earlier entries equal each entry of a vector: int64, of the same shape."""
    ordered, order = rows.sort(stable=True)
    numbers = torch.arange(len(rows), device=rows.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(numbers).scatter_(0, order, numbers)
