"""Lloyd's algorithm on one large set of points, which computes only the distances that may change an assignment."""

from __future__ import annotations

import math

import numpy as np
import torch

from advbench_defenses.seeding import squared_distances

__all__ = ["quantise_with_bounds"]


def quantise_with_bounds(points: torch.Tensor, centroids: torch.Tensor, iterations: int) -> torch.Tensor:
    """Replaces every point by the centroid of its cluster, as Lloyd's algorithm without bounds does.

    A point's lead is how much farther the second nearest centroid is than the nearest. It shrinks at most by how far
    the centroids have moved since it was computed, so a point cannot change its cluster before that movement exceeds
    the lead (Hamerly 2010, Making k-means Even Faster, section 3; here the movement of each cluster is summed over the
    iterations, so that nothing has to be updated for the other points).

    Args:
        points: float32, on the CPU, shape (points, coordinates).
        centroids: The initial centroids, shape (clusters, coordinates), at least two.
        iterations: Maximum number of iterations.

    Returns:
        Points of the same shape.
    """
    clustering = _Clustering(points, centroids)
    for _ in range(iterations):
        clustering.move()
        if not clustering.reassign():
            break
    return clustering.centroids.index_select(0, clustering.cluster)


class _Clustering:
    """The state of the algorithm.

    Attributes:
        centroids: Shape (clusters, coordinates).
        cluster: Index of each point's cluster.
    """

    def __init__(self, points: torch.Tensor, centroids: torch.Tensor) -> None:
        self.centroids = centroids
        self._points = points
        self._coordinates = points.t().contiguous()
        # The last coordinate is 1; its sum over a cluster counts the points.
        self._counted = torch.nn.functional.pad(points, (0, 1), value=1.0).double()
        clusters = len(centroids)
        self._mask = (1 << (clusters - 1).bit_length()) - 1
        self._margin = (self._mask + 1) * 2.0**-22 + 2.0**-18  # more than the rounding of distances
        self._cluster_indices = torch.arange(clusters, dtype=torch.int32)[:, None]
        self._squares, self._scratch = (torch.empty(clusters * len(points)) for _ in range(2))
        self._moved = torch.zeros(clusters, dtype=torch.float64)
        self.cluster, self._limit = self._nearest(self._coordinates)
        self._sums = torch.zeros(clusters, points.shape[1] + 1, dtype=torch.float64)
        self._sums.index_add_(0, self.cluster, self._counted)

    def move(self) -> None:
        """Moves each centroid to the mean of its cluster, and an empty cluster's to the point furthest from its own."""
        counts = self._sums[:, -1]
        means = (self._sums[:, :-1] / counts.clamp(min=1)[:, None]).float()
        centroids = torch.where((counts > 0)[:, None], means, self.centroids)
        empty = counts == 0
        if count := int(empty.sum()):
            squares = (self._points - centroids.index_select(0, self.cluster)).square().sum(dim=1)
            centroids[empty] = self._points[squares.argsort(descending=True)[:count]]
        shifts = (centroids.double() - self.centroids.double()).square().sum(dim=1).sqrt()
        longest = shifts.topk(2)
        of_others = torch.full_like(shifts, longest.values[0].item())
        of_others[longest.indices[0]] = longest.values[1]
        # A point loses at most the way of its own centroid and the longest way of another one.
        self._moved += (shifts + of_others) * (1 + 2.0**-40)
        self.centroids = centroids

    def reassign(self) -> bool:
        """Assigns the points whose lead may be used up to their nearest centroids; returns whether one has changed."""
        checked = _indices(self._limit < self._moved.index_select(0, self.cluster))
        if not len(checked):
            return False
        nearest, limit = self._nearest(self._coordinates.index_select(1, checked))
        self._limit.index_copy_(0, checked, limit)
        previous = self.cluster.index_select(0, checked)
        changed = _indices(nearest != previous)
        if not len(changed):
            return False
        rows, new, old = checked.index_select(0, changed), nearest.index_select(0, changed), previous[changed]
        self.cluster.index_copy_(0, rows, new)
        counted = self._counted.index_select(0, rows)
        self._sums.index_add_(0, new, counted).index_add_(0, old, counted, alpha=-1)
        return True

    def _nearest(self, coordinates: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns each point's nearest centroid, and the movement at which that may change.

        Args:
            coordinates: The points, shape (coordinates, points).
        """
        shape = 1, len(self.centroids), coordinates.shape[1]
        buffers = (buffer[: math.prod(shape)].view(shape) for buffer in (self._squares, self._scratch))
        squares = squared_distances(coordinates[None], self.centroids[None], *buffers)[0]
        # Non-negative floats are ordered like their bits, whose lowest ones here are the index of the cluster.
        bits = squares.view(torch.int32).bitwise_and_(~self._mask).bitwise_or_(self._cluster_indices)
        first = bits.amin(dim=0)
        nearest = (first & self._mask).long()
        second = bits.scatter_(0, nearest[None], torch.iinfo(torch.int32).max).amin(dim=0)
        near, far = (bits.view(torch.float32).sqrt().double() for bits in (first, second))
        lead = far * (1 - self._margin) - near * (1 + self._margin)
        return nearest, lead + self._moved.index_select(0, nearest)


def _indices(mask: torch.Tensor) -> torch.Tensor:
    """Returns the indices of the true values; several times faster than ``torch.nonzero``."""
    return torch.from_numpy(np.flatnonzero(mask.numpy()))
