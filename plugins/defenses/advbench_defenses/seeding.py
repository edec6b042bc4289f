"""Initial centroids by k-means++, for many small sets of points at a time."""

from __future__ import annotations

import math

import torch

__all__ = ["candidates_per_centroid", "kmeans_plus_plus", "squared_distances"]


def candidates_per_centroid(clusters: int) -> int:
    """Returns how many candidates are drawn per centroid, of which the best is kept: two more than in scikit-learn."""
    return 4 + int(math.log(clusters))


def kmeans_plus_plus(points: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws centroids by greedy k-means++.

    The first centroid is a point drawn uniformly. For each further one, several candidates are drawn with probabilities
    proportional to the squared distance from the nearest centroid so far, and the one that minimises the sum of these
    distances is kept (Arthur and Vassilvitskii 2007, k-means++: The Advantages of Careful Seeding, sections 2.2 and 7).

    Args:
        points: float32, shape (sets, points, coordinates).
        draws: Uniform numbers in [0, 1), shape (sets, clusters, candidates).

    Returns:
        The centroids, which are points of the set, shape (sets, clusters, coordinates); and for each set the inertia,
        the sum of squared distances from the nearest centroid, which is 0 if a set has no more distinct points than
        clusters.
    """
    sets, count, coordinates = points.shape
    coordinate_rows = points.transpose(1, 2).contiguous()
    rows = torch.arange(sets, device=points.device)
    chosen = torch.empty(sets, draws.shape[1], coordinates, dtype=points.dtype, device=points.device)
    chosen[:, 0] = points[rows, (draws[:, 0, 0] * count).long()]
    squares, scratch = (points.new_empty(sets, draws.shape[2], count) for _ in range(2))
    nearest_squares = squared_distances(coordinate_rows, chosen[:, :1], squares[:, :1], scratch[:, :1])[:, 0].clone()
    for cluster in range(1, draws.shape[1]):
        sums = nearest_squares.cumsum(dim=1)
        drawn = torch.searchsorted(sums, draws[:, cluster] * sums[:, -1:], right=True).clamp_(max=count - 1)
        candidates = points.gather(1, drawn[:, :, None].expand(-1, -1, coordinates))
        squared_distances(coordinate_rows, candidates, squares, scratch)
        best = torch.minimum(squares, nearest_squares[:, None], out=squares).sum(dim=2).argmin(dim=1)
        nearest_squares = squares[rows, best]
        chosen[:, cluster] = candidates[rows, best]
    return chosen, nearest_squares.sum(dim=1)


def squared_distances(
    coordinate_rows: torch.Tensor, centroids: torch.Tensor, out: torch.Tensor, scratch: torch.Tensor
) -> torch.Tensor:
    """Computes squared distances between points, laid out as (sets, coordinates, points), and centroids.

    Args:
        coordinate_rows: The points.
        centroids: Shape (sets, centroids, coordinates).
        out: Output, shape (sets, centroids, points).
        scratch: Scratch memory of the same shape.
    """
    torch.sub(coordinate_rows[:, None, 0], centroids[:, :, 0, None], out=out).square_()
    for coordinate in range(1, coordinate_rows.shape[1]):
        torch.sub(coordinate_rows[:, None, coordinate], centroids[:, :, coordinate, None], out=scratch)
        out.addcmul_(scratch, scratch)
    return out
