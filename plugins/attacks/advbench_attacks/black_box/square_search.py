"""The random search of Square Attack."""

from __future__ import annotations

import math
from bisect import bisect_left

import torch

from advbench.api import Goal, SampleRandom, for_rows
from advbench_attacks.active_sets import split
from advbench_attacks.balls import Ball
from advbench_attacks.black_box.square_proposals import make_proposals
from advbench_attacks.classifier_calls import float32_logits, reaches_goal
from advbench_attacks.norms import per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["SquareSearch", "pixel_share"]

_INITIAL_SHARE = 0.8
"""The initial share p of pixels in the window (AutoAttack)."""

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The share is halved after these numbers out of 10,000 queries (Andriushchenko et al. 2020, section 3; AutoAttack)."""

_QUERIES_PER_DRAW = 100
"""Random numbers are drawn for this many queries at a time: drawn one by one, they would cost as much as the model."""


class SquareSearch:
    """Changes one square after another and keeps a change if it raises the margin.

    This is algorithm 1 of Andriushchenko, Croce, Flammarion and Hein 2020, Square Attack. A sample leaves the batch at
    its first adversarial point.

    Args:
        model: Classifier in eval mode; only its logits are used, never a gradient.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        ball: The ball that contains all points.
        queries: Maximum number of queries per sample, not counting the one about the clean image.
        rng: The samples' random streams.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        ball: Ball,
        *,
        queries: int,
        rng: SampleRandom,
    ) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.queries = queries
        self.rng = rng
        self.points = images.clone()
        self._proposals = make_proposals(ball, images.shape[1:])

    def run(self) -> torch.Tensor:
        """Runs the search.

        Returns:
            Images of the clean images' shape: the adversarial point, or the one of highest margin; the clean image for
            a sample that reaches the goal already.
        """
        with torch.no_grad():
            rows = (~reaches_goal(self.model, self.images, self.goal)).nonzero().flatten()
            if len(rows):
                self._search(rows)
        return self.points

    def _search(self, rows: torch.Tensor) -> None:
        images, goal = self.images[rows], self.goal[rows]
        points = candidates = self._proposals.start(images, self.rng[rows])
        margins = torch.full(rows.shape, -math.inf, device=points.device)
        for query in range(self.queries):
            if query % _QUERIES_PER_DRAW == 0:
                uniforms = self.rng[rows].uniform(_QUERIES_PER_DRAW, self._proposals.draws).to(points)
            if query:
                share = pixel_share(query, self.queries)
                candidates = self._proposals.next(points, images, uniforms[:, query % _QUERIES_PER_DRAW], share)
            logits = float32_logits(for_rows(self.model, rows), candidates)
            candidate_margins = goal.margin(logits)
            is_adv = is_adversarial(logits, goal)
            improved = is_adv | (candidate_margins > margins)
            points, margins = (
                torch.where(per_image(improved), candidates, points),
                torch.where(improved, candidate_margins, margins),
            )
            finished, active = split(is_adv)
            if len(finished):
                self.points[rows[finished]] = points[finished]
                rows, images, goal, points = rows[active], images[active], goal[active], points[active]
                margins, uniforms = margins[active], uniforms[active]
                if not len(rows):
                    return
        self.points[rows] = points


def pixel_share(query: int, queries: int) -> float:
    """Returns the window's share of the pixels at a query; queries count from 1."""
    return _INITIAL_SHARE * 0.5 ** bisect_left(_HALVINGS, query * 10_000 // queries)
