"""Lloyd's algorithm on many small sets of points at once: the colours of one image each."""

from __future__ import annotations

import torch

__all__ = ["quantise"]

_BLOCK_VALUES = {"cpu": 2**19}
"""How many distances are in memory together: on a processor, no more than its caches hold."""


def quantise(points: torch.Tensor, order: torch.Tensor, clusters: int, iterations: int) -> torch.Tensor:
    """Replaces every point by the centroid of its cluster.

    The initial centroids are the first ``clusters`` distinct points in the given order. A centroid that loses all
    its points moves to the point that is furthest from its own. The set is finished when no point changes its
    cluster. Squared distances are compared to a relative 2⁻²³ times the number of clusters.

    Args:
        points: float32, shape (sets, points, coordinates).
        order: What the points are ordered by, shape (sets, points); where it is uniformly random, a point becomes
            a centroid with a probability in proportion to how often it occurs.
        clusters: Most distinct points that a set keeps.
        iterations: Most iterations.

    Returns:
        Points of the same shape; a set with no more distinct points than clusters is returned as it is.
    """
    block = max(1, _BLOCK_VALUES.get(points.device.type, 2**26) // (clusters * points.shape[1]))
    parts = zip(torch.split(points, block), torch.split(order, block), strict=True)
    quantised = [_quantise_block(*part, clusters, iterations) for part in parts]
    return torch.cat(quantised) if quantised else points.clone()


def _quantise_block(points: torch.Tensor, order: torch.Tensor, clusters: int, iterations: int) -> torch.Tensor:
    result = points.clone()
    colours = _distinct(points)
    rows = (colours.amax(dim=1) >= clusters).nonzero().flatten()
    if not len(rows):
        return result
    points = points[rows]
    cluster = _Line if points.shape[2] == 1 else _Space
    search = cluster(points, _initial(points, colours[rows], order[rows], clusters))
    before = search.assign()
    for _ in range(iterations):
        search.move()
        after = search.assign()
        going = (after != before).any(dim=1)
        if not going.all():
            result[rows[~going]] = search.quantised(~going)
            rows, after = rows[going], after[going]
            search.keep(going)
        if not len(rows):
            return result
        before = after
    result[rows] = search.quantised(torch.ones_like(rows, dtype=torch.bool))
    return result


def _distinct(points: torch.Tensor) -> torch.Tensor:
    """The number of each point's value among its set's distinct ones, from 0: int64, shape (sets, points)."""
    order = torch.arange(points.shape[1], device=points.device).expand(points.shape[:2])
    for coordinate in range(points.shape[2]):
        values = points[:, :, coordinate].gather(1, order)
        order = order.gather(1, values.argsort(dim=1, stable=True))
    ordered = points.gather(1, order[:, :, None].expand_as(points))
    new = (ordered[:, 1:] != ordered[:, :-1]).any(dim=2)
    numbers = torch.nn.functional.pad(new.long().cumsum(dim=1), (1, 0))
    return torch.zeros_like(order).scatter(1, order, numbers)


def _initial(points: torch.Tensor, colours: torch.Tensor, order: torch.Tensor, clusters: int) -> torch.Tensor:
    """The first distinct points in the order, shape (sets, clusters, coordinates)."""
    places = order.argsort(dim=1)
    rank = torch.zeros_like(places).scatter(
        1, places, torch.arange(places.shape[1], device=places.device).expand_as(places)
    )
    first = torch.full_like(rank, rank.shape[1]).scatter_reduce(1, colours, rank, "amin")
    chosen = places.gather(1, first.topk(clusters, dim=1, largest=False, sorted=True).values)
    return points.gather(1, chosen[:, :, None].expand(-1, -1, points.shape[2]))


class _Line:
    """Sets of numbers: clusters are intervals, so that only their ends among the sorted numbers matter."""

    def __init__(self, points: torch.Tensor, centroids: torch.Tensor) -> None:
        self._points = points[:, :, 0]
        self._sorted = self._points.sort(dim=1).values.double()
        self._sums = torch.nn.functional.pad(self._sorted.cumsum(dim=1), (1, 0))
        self._centroids = centroids[:, :, 0].double().sort(dim=1).values
        self._ends = torch.empty(0)

    def assign(self) -> torch.Tensor:
        """Finds the ends of the clusters; returns them."""
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
            own = self._centroids[row].repeat_interleave(counts[row])
            furthest = (self._sorted[row] - own).abs().argsort(descending=True)[: int(empty.sum())]
            self._centroids[row, empty] = self._sorted[row, furthest]
            self._centroids[row] = self._centroids[row].sort().values

    def quantised(self, which: torch.Tensor) -> torch.Tensor:
        """The centroid of every point of these sets."""
        centroids, points = self._centroids[which], self._points[which].double()
        middles = ((centroids[:, 1:] + centroids[:, :-1]) / 2).contiguous()
        cluster = torch.searchsorted(middles, points, right=True)
        return centroids.gather(1, cluster)[:, :, None].float()

    def keep(self, which: torch.Tensor) -> None:
        """Goes on with these sets only."""
        self._points, self._sorted, self._sums = self._points[which], self._sorted[which], self._sums[which]
        self._centroids, self._ends = self._centroids[which], self._ends[which]


class _Space:
    """Sets of points with several coordinates."""

    def __init__(self, points: torch.Tensor, centroids: torch.Tensor) -> None:
        self._points = points
        # Beside the coordinates a 1, whose sum over a cluster counts its points.
        self._counted = torch.nn.functional.pad(points, (0, 1), value=1.0).double()
        self._centroids = centroids
        clusters = centroids.shape[1]
        self._mask = (1 << (clusters - 1).bit_length()) - 1
        self._numbers = torch.arange(clusters, dtype=torch.int32, device=points.device)[None, :, None]
        self._cluster = torch.empty(0)

    def assign(self) -> torch.Tensor:
        """Finds each point's nearest centroid; returns their numbers, shape (sets, points)."""
        squares: torch.Tensor | None = None
        for coordinate in range(self._points.shape[2]):
            gap = self._points[:, None, :, coordinate] - self._centroids[:, :, None, coordinate]
            squares = gap.square_() if squares is None else squares.addcmul_(gap, gap)
        assert squares is not None
        # Bits of numbers that are not negative are in their order. With the cluster's number in the lowest bits the
        # smallest tells which it is, many times as quickly as a search for its position.
        bits = squares.view(torch.int32).bitwise_and_(~self._mask).bitwise_or_(self._numbers)
        self._cluster = (bits.amin(dim=1) & self._mask).long()
        return self._cluster

    def move(self) -> None:
        """Moves each centroid to the mean of its cluster."""
        sets, clusters, coordinates = self._centroids.shape
        where = self._cluster[:, :, None].expand(-1, -1, coordinates + 1)
        sums = self._counted.new_zeros(sets, clusters, coordinates + 1).scatter_add_(1, where, self._counted)
        counts = sums[:, :, -1]
        means = (sums[:, :, :-1] / counts.clamp(min=1)[:, :, None]).float()
        self._centroids = torch.where((counts > 0)[:, :, None], means, self._centroids)
        for row in (counts == 0).any(dim=1).nonzero().flatten().tolist():
            empty = counts[row] == 0
            own = self._centroids[row][self._cluster[row]]
            furthest = (self._points[row] - own).square().sum(dim=1).argsort(descending=True)[: int(empty.sum())]
            self._centroids[row, empty] = self._points[row, furthest]

    def quantised(self, which: torch.Tensor) -> torch.Tensor:
        """The centroid of every point of these sets."""
        where = self._cluster[which][:, :, None].expand(-1, -1, self._centroids.shape[2])
        return self._centroids[which].gather(1, where)

    def keep(self, which: torch.Tensor) -> None:
        """Goes on with these sets only."""
        self._points, self._counted = self._points[which], self._counted[which]
        self._centroids, self._cluster = self._centroids[which], self._cluster[which]
