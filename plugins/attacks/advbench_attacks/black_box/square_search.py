"""The random search of the square attack: the model's answers alone say what is kept."""

from __future__ import annotations

import math
from bisect import bisect_left

import torch

from advbench.api import SampleRandom, for_rows
from advbench_attacks.answers import ask
from advbench_attacks.balls import Ball
from advbench_attacks.black_box.square_proposals import proposals
from advbench_attacks.input_gradients import each, lead
from advbench_attacks.logit_differences import margin

__all__ = ["RandomSquares", "pixel_share"]

_FIRST_SHARE = 0.8
"""The share p of the pixels that the first windows have (AutoAttack)."""

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries the share is halved (Andriushchenko et al. 2020, section 3; AutoAttack)."""

_DRAWN = 100
"""For how many queries random numbers are drawn at a time: one by one they would take as long as the model."""


class RandomSquares:
    """Changes one square after another, and keeps a change where the margin of another class rises.

    The algorithm is number 1 of Andriushchenko, Croce, Flammarion and Hein 2020, Square Attack. Samples leave the
    batch at the first point that fools the model.

    Args:
        model: Classifier in eval mode; it is asked for logits, never for a gradient.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        ball: Where points may lie.
        queries: How many points a sample may try.
        rng: The samples' random streams.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        ball: Ball,
        *,
        queries: int,
        rng: SampleRandom,
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.queries = queries
        self.rng = rng
        self.points = images.clone()
        self._proposals = proposals(ball, images.shape[1:])

    def run(self) -> torch.Tensor:
        """Searches.

        Returns:
            Images of the clean images' shape: the point that fools the model, or the one of highest margin; the clean
            image for a sample that is misclassified already.
        """
        with torch.no_grad():
            rows = (ask(self.model, self.images).argmax(dim=1) == self.labels).nonzero().flatten()
            if len(rows):
                self._search(rows)
        return self.points

    def _search(self, rows: torch.Tensor) -> None:
        images, labels = self.images[rows], self.labels[rows]
        points = tried = self._proposals.start(images, self.rng[rows])
        margins = torch.full(rows.shape, -math.inf, device=points.device)
        for query in range(self.queries):
            if query % _DRAWN == 0:
                numbers = self.rng[rows].uniform(_DRAWN, self._proposals.numbers).to(points)
            if query:
                share = pixel_share(query, self.queries)
                tried = self._proposals.next(points, images, numbers[:, query % _DRAWN], share)
            logits = ask(for_rows(self.model, rows), tried)
            found = margin(logits, labels)
            done = lead(logits, labels)
            better = done | (found > margins)
            points, margins = torch.where(each(better), tried, points), torch.where(better, found, margins)
            if done.any():
                self.points[rows[done]] = points[done]
                going = ~done
                rows, images, labels, points = rows[going], images[going], labels[going], points[going]
                margins, numbers = margins[going], numbers[going]
                if not len(rows):
                    return
        self.points[rows] = points


def pixel_share(query: int, queries: int) -> float:
    """The share of the pixels that the window of a query has, the queries being counted from 1."""
    return _FIRST_SHARE * 0.5 ** bisect_left(_HALVINGS, query * 10_000 // queries)
