"""Where k-means begins: centroids drawn far from one another, for many small sets of points at once."""

from __future__ import annotations

import math

import torch

__all__ = ["candidates", "seeds", "squared_distances"]


def candidates(clusters: int) -> int:
    """How many points are drawn for each centroid, of which the best is taken: two more than in scikit-learn."""
    return 4 + int(math.log(clusters))


def seeds(points: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws centroids by greedy k-means++.

    The first is a point drawn uniformly. For each of the others some points are drawn, each with a probability in
    proportion to its squared distance from the nearest centroid so far, and the one is taken that leaves the
    smallest sum of these (Arthur and Vassilvitskii 2007, k-means++: The Advantages of Careful Seeding, sections 2.2
    and 7).

    Args:
        points: float32, shape (sets, points, coordinates).
        draws: Numbers in [0, 1), shape (sets, clusters, candidates).

    Returns:
        Centroids, each one of the points, shape (sets, clusters, coordinates); and per set the sum of the points'
        squared distances from the nearest, which is 0 where a set has no more distinct points than clusters.
    """
    sets, count, coordinates = points.shape
    along = points.transpose(1, 2).contiguous()
    rows = torch.arange(sets, device=points.device)
    chosen = torch.empty(sets, draws.shape[1], coordinates, dtype=points.dtype, device=points.device)
    chosen[:, 0] = points[rows, (draws[:, 0, 0] * count).long()]
    squares, gap = (points.new_empty(sets, draws.shape[2], count) for _ in range(2))
    left = squared_distances(along, chosen[:, :1], squares[:, :1], gap[:, :1])[:, 0].clone()
    for cluster in range(1, draws.shape[1]):
        sums = left.cumsum(dim=1)
        drawn = torch.searchsorted(sums, draws[:, cluster] * sums[:, -1:], right=True).clamp_(max=count - 1)
        tried = points.gather(1, drawn[:, :, None].expand(-1, -1, coordinates))
        squared_distances(along, tried, squares, gap)
        best = torch.minimum(squares, left[:, None], out=squares).sum(dim=2).argmin(dim=1)
        left = squares[rows, best]
        chosen[:, cluster] = tried[rows, best]
    return chosen, left.sum(dim=1)


def squared_distances(
    along: torch.Tensor, centroids: torch.Tensor, out: torch.Tensor, room: torch.Tensor
) -> torch.Tensor:
    """Squared distances of points, laid out as (sets, coordinates, points), from centroids.

    Args:
        along: The points.
        centroids: Shape (sets, centroids, coordinates).
        out: Where they are to be written, shape (sets, centroids, points).
        room: As much memory again.
    """
    torch.sub(along[:, None, 0], centroids[:, :, 0, None], out=out).square_()
    for coordinate in range(1, along.shape[1]):
        torch.sub(along[:, None, coordinate], centroids[:, :, coordinate, None], out=room)
        out.addcmul_(room, room)
    return out
