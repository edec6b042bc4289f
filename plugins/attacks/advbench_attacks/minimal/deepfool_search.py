"""DeepFool's search: steps to the nearest of the linearised class boundaries until one is crossed."""

from __future__ import annotations

import math

import torch

from advbench.api import Norm, for_rows, is_stochastic
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import each, fooled
from advbench_attacks.minimal_steps import confirmed, size

__all__ = ["BoundarySteps"]

_BEYOND = 1e-4
"""By how much a step is longer than the way to the boundary, against rounding (Foolbox; the paper has none)."""

_BEYOND_SHARE = 1e-4
"""That length as a share of the way from the clean image at most: 1e-4 alone is much where boundaries are near.

What the overshoot covers is left out of the first step, and where that is all, it falls short by as little, so that
rounding makes it no longer than (1 + overshoot) times the way to a plane. Later ones would come ever nearer to a
boundary without it, and not across.
"""

_ROUNDING = 6e-8
"""How far a pixel may be from where it should be: half of what is between float32 numbers near 1.

The first step is shorter by that, too, where the overshoot covers as much: next to a boundary, rounding alone would
make it longer than (1 + overshoot) times the way.
"""

_SLACK = 0.005
"""By what share of itself rounding may shorten the first step; the overshoot must be twice that."""

_STUCK = 1e-3
"""A step is called small that is shorter than this share of the way so far; see :class:`_Nearest`."""

_FIRST_PUSH = 1e-4
"""Length of the first push of a sample that has not moved and has no way to go: its two logits are equal."""

_WORTH = 0.9
"""What share of a batch must go on for the backward passes to be worth taking for the others, too."""

_WORTH_ONE = 0.6
"""What share of a batch must want a boundary looked at for one backward pass to be worth taking for the others, too."""

_STEEPER = 4.0
"""By what factor a class's slope is trusted not to grow while those that are looked at are steady."""

_STEADY = 1.25
"""By what factor a slope may have changed and is still called steady."""


class BoundarySteps:
    """Takes DeepFool's steps (Moosavi-Dezfooli, Fawzi and Frossard 2016, algorithm 2) on a batch.

    At each step every sample moves to the nearest of the boundaries f_k = z_k − z_y = 0, linearised at its point:
    in L2 by |f_k|/‖∇f_k‖₂² · ∇f_k, in L∞ by |f_k|/‖∇f_k‖₁ · sign ∇f_k (section 3.3). The sum of the steps, times
    1 + overshoot and clipped to [0, 1], is the next point. Samples that are done leave the batch.

    The first step costs a backward pass a class. Later ones look at the boundary that seems the nearest, and pass
    over those that would be farther even if they were four times as steep as when all were last looked at. Where
    the slopes that are looked at have changed by a quarter since then, all boundaries are looked at again.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Largest number of steps.
        candidates: How many classes are looked at, the likeliest at the clean image first, the true one included.
        overshoot: How far to go past the boundary, as a share of the way to it.
        norm: ``l2`` or ``linf``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        steps: int,
        candidates: int,
        overshoot: float,
        norm: Norm,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.steps = steps
        self.candidates = candidates
        self.overshoot = overshoot
        self.norm = norm
        self._stochastic = is_stochastic(model)
        self._slopes = images.new_zeros(len(images), 0)
        self._small = torch.zeros_like(labels)

    def run(self) -> torch.Tensor:
        """Takes the steps.

        Returns:
            Images of the clean images' shape; the clean image for a sample that is misclassified already, or whose
            steps crossed no boundary.
        """
        points, reached = self.images.clone(), self.images
        crossed = torch.zeros_like(self.labels, dtype=torch.bool)
        rows = torch.arange(len(reached), device=reached.device)
        moved = torch.zeros_like(reached)
        for step in range(self.steps + 1):
            asked, logits = self._ask(rows, reached, gradient=not self._stochastic)
            if step == 0:
                classes = logits.detach().argsort(dim=1, descending=True, stable=True)[:, : self.candidates]
                self._slopes = logits.new_zeros(classes.shape)
            going = logits.argmax(dim=1) == self.labels[rows]
            points[rows[~going]], crossed[rows[~going]] = reached[~going], True
            rows, classes, moved, reached = rows[going], classes[going], moved[going], reached[going]
            if not len(rows) or step == self.steps:
                break
            if self._stochastic or len(rows) < _WORTH * len(asked):
                asked, logits = self._ask(rows, reached, gradient=True)
                going = torch.ones_like(rows, dtype=torch.bool)
            moved = moved + self._nearest(asked, logits, going, rows, classes, moved=moved)
            reached = (self.images[rows] + (1 + self.overshoot) * moved).clamp(0, 1)
        finite = points.flatten(1).isfinite().all(dim=1)
        lost = ~fooled(self.model, points, self.labels) & finite
        points = torch.where(each(finite), points, self.images)
        # Only those: what the overshoot has led across is left where it is.
        return confirmed(self.model, points, self.images, self.labels, found=lost & crossed)

    def _ask(self, rows: torch.Tensor, points: torch.Tensor, *, gradient: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """These samples' points, and what the model says of them; with a graph from one to the other, or without."""
        with torch.set_grad_enabled(gradient):
            points = points.detach().requires_grad_(gradient)
            return points, ask(for_rows(self.model, rows), points)

    def _nearest(
        self,
        asked: torch.Tensor,
        logits: torch.Tensor,
        going: torch.Tensor,
        rows: torch.Tensor,
        classes: torch.Tensor,
        *,
        moved: torch.Tensor,
    ) -> torch.Tensor:
        """The steps from these points to the nearest of their linearised boundaries, of the points' shape.

        Args:
            asked: Where the samples that the model was asked about are.
            logits: Its answer, with a graph.
            going: Which of them take a step.
            rows: Which samples those are.
            classes: Their candidates, shape (samples, candidates); the true class is skipped.
            moved: Their steps so far, in sum.
        """
        labels, slopes = self.labels[rows], self._slopes[rows]
        at, places = going.nonzero().flatten(), torch.arange(len(rows), device=rows.device)
        points = asked.detach()[at]
        gaps = _gaps(logits, at, classes, labels)
        heights = gaps.detach().abs()
        unseen = classes != labels[:, None]
        bounds = torch.where(slopes > 0, heights / (_STEEPER * slopes), 0.0)
        seen = torch.zeros_like(slopes)
        nearest = _Nearest(moved, self.norm, self.overshoot, self._small[rows])
        while True:
            bound, column = bounds.masked_fill(~unseen, math.inf).min(dim=1)
            wanted = unseen.any(dim=1) & (bound <= nearest.distances)
            count = int(wanted.sum())
            if not count:
                break
            if count < _WORTH_ONE * len(asked) and not self._stochastic:
                places = wanted.nonzero().flatten()
                asked, logits = self._ask(rows[places], points[places], gradient=True)
                at = torch.arange(count, device=rows.device)
                gaps = _gaps(logits, at, classes[places], labels[places])
            among = wanted[places]
            these = places[among]
            k = column[these, None]
            with torch.enable_grad():
                looked_at = gaps[among].gather(1, k).sum()
            gradient = torch.autograd.grad(looked_at, asked, retain_graph=True)[0][at[among]]
            slope = nearest.note(these, k[:, 0], heights[these].gather(1, k)[:, 0], gradient)
            unseen[these, k[:, 0]] = False
            seen[these, k[:, 0]] = slope
            change = slope / slopes[these].gather(1, k)[:, 0]
            bounds[these[(change > _STEADY) | (change < 1 / _STEADY)]] = 0
        whole = ~unseen.any(dim=1)
        self._slopes[rows[whole]] = seen[whole]
        self._small[rows] = torch.where(nearest.small(), self._small[rows] + 1, 0)
        return nearest.steps


class _Nearest:
    """Of each sample the step to the nearest of the linearised boundaries that were looked at so far.

    Logits of few digits, as those of float16 and of quantised networks are, do not show the last of the way: where two
    are equal, it seems to be 0, and steps would stay where they are. From the third small step in a row on, a sample
    goes twice as far beyond the boundary as before.

    Args:
        moved: The samples' steps before, in sum; shape (samples, channels, height, width).
        norm: ``l2`` or ``linf``.
        overshoot: How far to go past the boundary, as a share of the way to it.
        small: How many small steps each sample has taken in a row; shape (samples,).

    Attributes:
        steps: Of the same shape.
        distances: How far the boundaries are, or infinity; shape (samples,).
    """

    def __init__(self, moved: torch.Tensor, norm: Norm, overshoot: float, small: torch.Tensor) -> None:
        self.norm = norm
        self.overshoot = overshoot
        self._pushes = 2.0 ** (small - 1).clamp(min=0)
        self.steps = torch.zeros_like(moved)
        self.distances = moved.new_full(moved.shape[:1], math.inf)
        self._columns = torch.zeros_like(self.distances, dtype=torch.int64)
        self._gone = size(moved, norm)
        self._rounding = _ROUNDING * (moved[0].numel() ** 0.5 if norm == "l2" else 1.0)

    def note(
        self, places: torch.Tensor, columns: torch.Tensor, heights: torch.Tensor, gradients: torch.Tensor
    ) -> torch.Tensor:
        """Looks at one boundary of each of some samples.

        Args:
            places: Which samples; shape (some,).
            columns: Which boundary of each; of two that are equally far, that of the first column is the nearest.
            heights: The values |f_k|.
            gradients: The gradients ∇f_k, shape (some, channels, height, width).

        Returns:
            The slopes ‖∇f_k‖ in the dual norm; shape (some,).
        """
        flat = gradients.flatten(1)
        slopes = flat.norm(dim=1) if self.norm == "l2" else flat.abs().sum(dim=1)
        distances = heights / slopes
        lengths = distances + self._beyond(distances, self._gone[places], self._pushes[places])
        steps = each(lengths / slopes) * gradients if self.norm == "l2" else each(lengths) * gradients.sign()
        before = self.distances[places]
        nearer = (distances < before) | ((distances == before) & (columns < self._columns[places]))
        nearer &= distances.isfinite()
        self.steps[places[nearer]] = steps[nearer]
        self.distances[places[nearer]] = distances[nearer]
        self._columns[places[nearer]] = columns[nearer]
        return slopes

    def small(self) -> torch.Tensor:
        """Whose steps are small: bool, shape (samples,)."""
        return self.distances <= _STUCK * self._gone

    def _beyond(self, distances: torch.Tensor, gone: torch.Tensor, pushes: torch.Tensor) -> torch.Tensor:
        """By how much steps are longer than these ways to boundaries; all arguments are of one shape."""
        later = (_BEYOND_SHARE * (gone + distances)).clamp(max=_BEYOND) * pushes
        share = max(_BEYOND_SHARE - self.overshoot, -_BEYOND_SHARE)
        first = (share * distances).clamp(max=_BEYOND)
        if share < 0 and self.overshoot >= 2 * _SLACK:
            first = torch.minimum(first, -(_SLACK * distances).clamp(max=self._rounding))
        first = torch.where(distances > 0, first, _FIRST_PUSH)
        return torch.where(gone > 0, later, first)


def _gaps(logits: torch.Tensor, at: torch.Tensor, classes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The differences f_k = z_k − z_y of the samples at these places, with a graph: shape (samples, candidates)."""
    with torch.enable_grad():
        logits = logits[at]
        return logits.gather(1, classes) - logits.gather(1, labels[:, None])
