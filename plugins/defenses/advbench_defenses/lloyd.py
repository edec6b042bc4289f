"""Lloyd's algorithm on many small sets of points at once: the colours of one image each."""

from __future__ import annotations

import torch

from advbench_defenses.block_threads import over_blocks
from advbench_defenses.seeding import seeds, squared_distances

__all__ = ["quantise"]

_BLOCK_VALUES = 2**20
"""How many distances are in memory together: no more than the processor's caches hold."""


_WORTH_A_THREAD = 100
"""Below so many sets, threads wait for one another longer than they compute."""


def quantise(points: torch.Tensor, draws: torch.Tensor, iterations: int) -> torch.Tensor:
    """Replaces every point by the centroid of its cluster.

    The initial centroids are those of :func:`seeds`. A centroid that loses all its points moves to the point that is
    furthest from its own. The set is finished when no point changes its cluster. Squared distances are compared to a
    relative 2⁻²³ times the number of clusters. All is computed on the processor. A GPU adds up in an order that depends
    on how many sets there are, and between colours of 8 bits there are ties, of which rounding then decides.

    Args:
        points: float32, on any device, shape (sets, points, coordinates).
        draws: Numbers in [0, 1), shape (sets, clusters, candidates); a set keeps as many distinct points as clusters.
        iterations: Most iterations.

    Returns:
        Points of the same shape and on the same device; a set with no more distinct points than clusters is returned as
        it is.
    """
    if not len(points):
        return points.clone()
    device, points, draws = points.device, points.cpu(), draws.cpu()
    values = _BLOCK_VALUES // points.shape[1]
    fair = max(_WORTH_A_THREAD, -(-len(points) // torch.get_num_threads()))  # so that each thread has a block

    def split(each: int, *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        block = max(1, min(values // each, fair))
        return list(zip(*(torch.split(tensor, block) for tensor in tensors), strict=True))

    starts = over_blocks(lambda part: seeds(*part), split(draws.shape[2], points, draws))
    centroids, left = (torch.cat(pieces) for pieces in zip(*starts, strict=True))
    blocks = split(draws.shape[1], points, centroids, left)
    found = torch.cat(over_blocks(lambda part: _quantise_block(*part, iterations=iterations), blocks))
    return found.to(device)


def _quantise_block(
    points: torch.Tensor, centroids: torch.Tensor, left: torch.Tensor, *, iterations: int
) -> torch.Tensor:
    result = points.clone()
    rows = (left > 0).nonzero().flatten()
    if not len(rows):
        return result
    points = points[rows]
    cluster = _Line if points.shape[2] == 1 else _Space
    search = cluster(points, centroids[rows])
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
        self._along = points.transpose(1, 2).contiguous()
        clusters = centroids.shape[1]
        self._squares, self._room = (points.new_empty(len(points), clusters, points.shape[1]) for _ in range(2))
        self._mask = (1 << (clusters - 1).bit_length()) - 1
        self._numbers = torch.arange(clusters, dtype=torch.int32, device=points.device)[None, :, None]
        self._cluster = torch.empty(0)

    def assign(self) -> torch.Tensor:
        """Finds each point's nearest centroid; returns their numbers, shape (sets, points)."""
        sets = len(self._centroids)
        squares = squared_distances(self._along, self._centroids, self._squares[:sets], self._room[:sets])
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
        self._points, self._counted, self._along = self._points[which], self._counted[which], self._along[which]
        self._centroids, self._cluster = self._centroids[which], self._cluster[which]
