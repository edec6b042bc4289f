"""The ray search of RayS."""

from __future__ import annotations

import torch

from advbench.api import Goal, for_rows
from advbench_attacks.active_sets import split
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.norms import per_image

__all__ = ["TOLERANCE", "RaySearch"]

TOLERANCE = 1e-3
"""Length of the interval at which a bisection ends, in L2 as in the authors' code: divided by √values, in L∞."""


class RaySearch:
    """Searches rays: clip(x + radius · signs, 0, 1), with signs of ±1 and the smallest radius that succeeds.

    This is algorithm 3 of Chen and Gu 2020, RayS: A Ray Searching Method for Hard-label Adversarial Attack. Each query
    of a sample either tries a flip of the signs in one block at the present radius, or halves the interval of the
    radius (algorithm 2). The blocks of a level are the whole image, halves, quarters and so on. The last level, of
    single values, is repeated until it brings nothing. A sample's queries depend on its own answers alone.

    Args:
        model: Classifier in eval mode; only its predicted classes are used.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        eps: A radius at which a sample ends, or None.
        queries: Maximum number of queries per sample.

    Attributes:
        radii: Each sample's smallest radius that succeeded, infinite if none did; shape (batch,).
    """

    def __init__(
        self, model: torch.nn.Module, images: torch.Tensor, goal: Goal, *, eps: float | None, queries: int
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.eps = eps
        self.queries = queries
        self.radii = torch.full_like(goal.labels, torch.inf, dtype=torch.float32)
        self._tolerance = TOLERANCE / images[0].numel() ** 0.5
        self._signs = torch.ones_like(images.flatten(1))

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape: the nearest success; the clean image for a sample that is misclassified
            already, or that never succeeded; with ``eps``, instead of a success that is farther away or of none, the
            point at distance eps in the best direction.
        """
        rows = torch.arange(len(self.images), device=self.images.device)
        with torch.no_grad():
            reached = self._succeeds(rows, self.images)
            rows = rows[~reached]
            if len(rows) and self.queries > 1:
                self._search(rows)
        radii = self.radii
        if self.eps is not None:
            radii = radii.clamp(max=self.eps)
        points = self._points(self._signs, radii.nan_to_num(posinf=0.0), self.images)
        return torch.where(per_image(reached), self.images, points)

    def _search(self, rows: torch.Tensor) -> None:
        """Searches the rays of these samples, one query of each at a time."""
        images = self.images[rows]
        state = _Rays(images.flatten(1), self._tolerance, self.eps)
        for _ in range(self.queries - 1):
            signs, radii = state.next_query()
            state.record(self._succeeds(rows, self._points(signs, radii, images)))
            ended = state.ended()
            finished, active = split(ended)
            if len(finished):
                state.accept_shorter(ended)
                self._keep(rows, state, finished)
                rows, images = rows[active], images[active]
                state.select(active)
                if not len(rows):
                    return
        state.accept_shorter(torch.ones_like(rows, dtype=torch.bool))
        self._keep(rows, state, torch.arange(len(rows), device=rows.device))

    def _keep(self, rows: torch.Tensor, state: _Rays, positions: torch.Tensor) -> None:
        self._signs[rows[positions]], self.radii[rows[positions]] = state.signs[positions], state.radii[positions]

    def _points(self, signs: torch.Tensor, radii: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return (images + (radii[:, None] * signs).reshape(images.shape)).clamp(0, 1)

    def _succeeds(self, rows: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return self.goal[rows].reached(float32_logits(for_rows(self.model, rows), points))


class _Rays:
    """The rays of some samples, and where each one's search is; every tensor has one row per sample.

    Attributes:
        signs: The best direction, ±1, shape (samples, values).
        radii: Its radius; infinite before the first success.
    """

    def __init__(self, images: torch.Tensor, tolerance: float, eps: float | None) -> None:
        self.tolerance = tolerance
        self.eps = -1.0 if eps is None else eps
        self.values = images.shape[1]
        self.signs = signs = torch.ones_like(images)
        self._images = images
        self.radii = signs.new_full(signs.shape[:1], torch.inf)
        self._finished = torch.zeros_like(self.radii, dtype=torch.bool)  # whether a pass over values brought nothing
        self._trial = signs  # the first query is about the signs as they are
        self._bisects = self._finished
        self._low, self._high = torch.zeros_like(self.radii), self.radii
        self._blocks = torch.ones_like(self.radii, dtype=torch.int64)  # how many blocks the level has
        self._block = torch.full_like(self._blocks, -1)
        self._improved = torch.ones_like(self._finished)  # whether the pass over this level has brought anything

    def next_query(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the signs and the radius to try of each sample. The first radius leads to a corner of [0, 1]."""
        room = torch.where(self._trial > 0, 1 - self._images, self._images).amax(dim=1)  # a longer step adds nothing
        middle = (self._low + self._high) / 2
        middle = middle.masked_fill((self._low < self.eps) & (self.eps < self._high), self.eps)
        return self._trial, torch.where(self._bisects, middle, self.radii.minimum(room))

    def ended(self) -> torch.Tensor:
        """Returns which samples are done: at a radius of at most eps, or if no flip of a single value helps."""
        return self._finished | (self._high <= self.eps)

    def record(self, succeeded: torch.Tensor) -> None:
        """Takes the answers to :meth:`next_query`."""
        radii = self.next_query()[1]
        starts, bisects = succeeded & ~self._bisects, self._bisects
        self._low = torch.where(bisects & ~succeeded, radii, torch.where(starts, 0.0, self._low))
        self._high = torch.where(succeeded, radii, self._high)
        bisects = bisects | starts
        done = bisects & (self._high - self._low <= self.tolerance)
        self.accept_shorter(done)
        self._bisects = bisects & ~done
        self._go_on(~self._bisects)

    def accept_shorter(self, chosen: torch.Tensor) -> None:
        """Keeps the directions of these samples whose bisection has found a smaller radius."""
        shorter = chosen & (self._high < self.radii)
        self.signs = torch.where(shorter[:, None], self._trial, self.signs)
        self.radii = torch.where(shorter, self._high, self.radii)
        self._improved = self._improved | shorter

    def select(self, chosen: torch.Tensor) -> None:
        """Continues with the samples at these positions only."""
        for name, value in list(vars(self).items()):
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[chosen])

    def _go_on(self, chosen: torch.Tensor) -> None:
        """Chooses the next block of these samples, and flips its signs for a trial."""
        size = -(-self.values // self._blocks)
        block = self._block + chosen
        ends = chosen & (block * size >= self.values)
        finest = self._blocks >= self.values
        self._finished = self._finished | (ends & finest & ~self._improved)
        self._blocks = torch.where(ends & ~finest, self._blocks * 2, self._blocks)
        self._improved = self._improved & ~ends
        self._block = torch.where(ends, 0, block)
        size = -(-self.values // self._blocks)[:, None]
        start = self._block[:, None] * size
        places = torch.arange(self.values, device=self.signs.device)
        flipped = torch.where((places >= start) & (places < start + size), -self.signs, self.signs)
        self._trial = torch.where(chosen[:, None], flipped, self._trial)
