"""Lloyd's algorithm on many small sets of points at a time, such as the colours of each image."""

from __future__ import annotations

import torch

from advbench_defenses.block_threads import map_in_threads
from advbench_defenses.lloyd_with_bounds import quantise_with_bounds
from advbench_defenses.seeding import kmeans_plus_plus, squared_distances

__all__ = ["quantise"]

_BLOCK_VALUES = 2**20
"""Number of distances in memory at a time: at most what the processor's caches hold."""


_MIN_SETS_PER_THREAD = 100
"""With fewer sets, threads spend more time on synchronisation than on computing."""

_MIN_POINTS_WITH_BOUNDS = 10_000
"""Number of points from which bounds save more time than they take, for one set at a time."""


def quantise(points: torch.Tensor, draws: torch.Tensor, iterations: int) -> torch.Tensor:
    """Replaces every point by the centroid of its cluster.

    The initial centroids are those of :func:`kmeans_plus_plus`. An empty cluster's centroid moves to the point furthest
    from its own centroid. A set is finished once no point changes its cluster. Squared distances are compared to a
    relative precision of 2⁻²³ times the number of clusters. Everything is computed on the CPU: a GPU's order of
    summation depends on the number of sets, and rounding then breaks ties between 8-bit colours differently.

    Args:
        points: float32, on any device, shape (sets, points, coordinates).
        draws: Uniform numbers in [0, 1), shape (sets, clusters, candidates); the second dimension sets the number of
            clusters.
        iterations: Maximum number of iterations.

    Returns:
        Points of the same shape, on the same device. A set with no more distinct points than clusters is unchanged.
    """
    if not len(points):
        return points.clone()
    device, points, draws = points.device, points.cpu(), draws.cpu()
    values = _BLOCK_VALUES // points.shape[1]
    max_block = max(_MIN_SETS_PER_THREAD, -(-len(points) // torch.get_num_threads()))  # so that each thread has a block

    def split(values_per_set: int, *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        block = max(1, min(values // values_per_set, max_block))
        return list(zip(*(torch.split(tensor, block) for tensor in tensors), strict=True))

    starts = map_in_threads(lambda part: kmeans_plus_plus(*part), split(draws.shape[2], points, draws))
    centroids, inertia = (torch.cat(pieces) for pieces in zip(*starts, strict=True))
    blocks = split(draws.shape[1], points, centroids, inertia)
    quantised_points = torch.cat(map_in_threads(lambda part: _quantise_block(*part, iterations=iterations), blocks))
    return quantised_points.to(device)


def _quantise_block(
    points: torch.Tensor, centroids: torch.Tensor, inertia: torch.Tensor, *, iterations: int
) -> torch.Tensor:
    result = points.clone()
    rows = (inertia > 0).nonzero().flatten()
    if not len(rows):
        return result
    points, centroids = points[rows], centroids[rows]
    if points.shape[1] >= _MIN_POINTS_WITH_BOUNDS and points.shape[2] > 1 and centroids.shape[1] > 1:
        for row, set_points, set_centroids in zip(rows.tolist(), points, centroids, strict=True):
            result[row] = quantise_with_bounds(set_points, set_centroids, iterations)
        return result
    cluster_class = _ScalarClusters if points.shape[2] == 1 else _VectorClusters
    clustering = cluster_class(points, centroids)
    previous = clustering.assign()
    for _ in range(iterations):
        clustering.move()
        assignment = clustering.assign()
        active = (assignment != previous).any(dim=1)
        if not active.all():
            result[rows[~active]] = clustering.quantised(~active)
            rows, assignment = rows[active], assignment[active]
            clustering.select(active)
        if not len(rows):
            return result
        previous = assignment
    result[rows] = clustering.quantised(torch.ones_like(rows, dtype=torch.bool))
    return result


class _ScalarClusters:
    """Clusters of scalars: they are intervals, so that only their ends among the sorted values matter."""

    def __init__(self, points: torch.Tensor, centroids: torch.Tensor) -> None:
        self._points = points[:, :, 0]
        self._sorted = self._points.sort(dim=1).values.double()
        self._sums = torch.nn.functional.pad(self._sorted.cumsum(dim=1), (1, 0))
        self._centroids = centroids[:, :, 0].double().sort(dim=1).values
        self._ends = torch.empty(0)

    def assign(self) -> torch.Tensor:
        """Computes and returns the ends of the clusters."""
        middles = (self._centroids[:, 1:] + self._centroids[:, :-1]) / 2
        inner = torch.searchsorted(self._sorted, middles)
        self._ends = torch.nn.functional.pad(
            torch.nn.functional.pad(inner, (1, 0)), (0, 1), value=self._sorted.shape[1]
        )
        return self._ends

    def move(self) -> None:
        """Moves each centroid to the mean of its cluster."""
        counts = self._ends.diff(dim=1)
        sums = self._sums.gather(1, self._ends).diff(dim=1)
        self._centroids = torch.where(counts > 0, sums / counts.clamp(min=1), self._centroids)
        for row in (counts == 0).any(dim=1).nonzero().flatten().tolist():
            empty = counts[row] == 0
            own_centroids = self._centroids[row].repeat_interleave(counts[row])
            furthest = (self._sorted[row] - own_centroids).abs().argsort(descending=True)[: int(empty.sum())]
            self._centroids[row, empty] = self._sorted[row, furthest]
            self._centroids[row] = self._centroids[row].sort().values

    def quantised(self, mask: torch.Tensor) -> torch.Tensor:
        """Returns the centroid of every point of these sets."""
        centroids, points = self._centroids[mask], self._points[mask].double()
        middles = ((centroids[:, 1:] + centroids[:, :-1]) / 2).contiguous()
        assignment = torch.searchsorted(middles, points, right=True)
        return centroids.gather(1, assignment)[:, :, None].float()

    def select(self, mask: torch.Tensor) -> None:
        """Continues with these sets only."""
        self._points, self._sorted, self._sums = self._points[mask], self._sorted[mask], self._sums[mask]
        self._centroids, self._ends = self._centroids[mask], self._ends[mask]


class _VectorClusters:
    """Clusters of points with several coordinates."""

    def __init__(self, points: torch.Tensor, centroids: torch.Tensor) -> None:
        self._points = points
        # The last coordinate is 1; its sum over a cluster counts the points.
        self._counted = torch.nn.functional.pad(points, (0, 1), value=1.0).double()
        self._centroids = centroids
        self._coordinates = points.transpose(1, 2).contiguous()
        clusters = centroids.shape[1]
        self._squares, self._scratch = (points.new_empty(len(points), clusters, points.shape[1]) for _ in range(2))
        self._mask = (1 << (clusters - 1).bit_length()) - 1
        self._cluster_indices = torch.arange(clusters, dtype=torch.int32, device=points.device)[None, :, None]
        self._cluster = torch.empty(0)

    def assign(self) -> torch.Tensor:
        """Computes and returns the index of each point's nearest centroid, shape (sets, points)."""
        sets = len(self._centroids)
        squares = squared_distances(self._coordinates, self._centroids, self._squares[:sets], self._scratch[:sets])
        # Non-negative floats are ordered like their bits. With the cluster's index in the lowest bits, the minimum
        # contains the index of the nearest cluster; this is many times faster than argmin.
        bits = squares.view(torch.int32).bitwise_and_(~self._mask).bitwise_or_(self._cluster_indices)
        self._cluster = (bits.amin(dim=1) & self._mask).long()
        return self._cluster

    def move(self) -> None:
        """Moves each centroid to the mean of its cluster."""
        sets, clusters, coordinates = self._centroids.shape
        index = self._cluster[:, :, None].expand(-1, -1, coordinates + 1)
        sums = self._counted.new_zeros(sets, clusters, coordinates + 1).scatter_add_(1, index, self._counted)
        counts = sums[:, :, -1]
        means = (sums[:, :, :-1] / counts.clamp(min=1)[:, :, None]).float()
        self._centroids = torch.where((counts > 0)[:, :, None], means, self._centroids)
        for row in (counts == 0).any(dim=1).nonzero().flatten().tolist():
            empty = counts[row] == 0
            own_centroids = self._centroids[row][self._cluster[row]]
            furthest = (
                (self._points[row] - own_centroids).square().sum(dim=1).argsort(descending=True)[: int(empty.sum())]
            )
            self._centroids[row, empty] = self._points[row, furthest]

    def quantised(self, mask: torch.Tensor) -> torch.Tensor:
        """Returns the centroid of every point of these sets."""
        index = self._cluster[mask][:, :, None].expand(-1, -1, self._centroids.shape[2])
        return self._centroids[mask].gather(1, index)

    def select(self, mask: torch.Tensor) -> None:
        """Continues with these sets only."""
        self._points, self._counted, self._coordinates = (
            self._points[mask],
            self._counted[mask],
            self._coordinates[mask],
        )
        self._centroids, self._cluster = self._centroids[mask], self._cluster[mask]
