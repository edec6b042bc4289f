"""Soft assignment of points to clusters: k-means with a useful gradient."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["SOFTENINGS", "Softening", "soft_quantise"]


class Softening(NamedTuple):
    """How an assignment is softened.

    Attributes:
        temperature: The temperature of the assignment, as a share of the mean squared distance between neighbouring
            centroids. That distance is about .04 for CIFAR-10's images and 8 clusters.
        share: The share of the points themselves that is added, which gives points far from any boundary a gradient.
    """

    temperature: float
    share: float


SOFTENINGS = (Softening(0.1, 0.0), Softening(0.25, 3.0))
"""Softenings that complement each other.

On colour images, the first is better. On MNIST, most pixels are much nearer to one centroid than to all others, and
attacks make little progress without a large share of the points themselves.
"""

_MIN_SQUARED_GAP = 1e-6
"""Smallest squared distance between centroids that is used: less than that of two colours of 8 bits."""

_BLOCK_VALUES = 2**22
"""Number of assignments in memory at a time; those of further blocks are computed again in the backward pass."""


def soft_quantise(points: torch.Tensor, quantised: torch.Tensor, softening: Softening) -> torch.Tensor:
    """Replaces every point v by Σ wₖ cₖ + s v, where the weights w are softmax(−‖v − cₖ‖²/T) over the centroids c.

    Clusters are those of a finished k-means. A centroid is the mean of its members, and moves with them. So a point has
    a gradient through its assignment, through its cluster's centroid, and through the term s v. The value is meant for
    the gradient alone. T is a share of the mean squared distance from a centroid to its nearest neighbour.

    Args:
        points: Shape (sets, points, coordinates).
        quantised: The centroid of each point's cluster, of the same shape, without a gradient.
        softening: T and s.

    Returns:
        Points of the same shape, with a gradient to ``points``.
    """
    clusters = _cluster_indices(quantised)
    count = int(clusters.max()) + 1 if clusters.numel() else 1
    block = max(1, _BLOCK_VALUES // max(1, points.shape[1] * count))
    if len(points) <= block:
        return _soften(points, clusters, count, softening)
    blocks = zip(torch.split(points, block), torch.split(clusters, block), strict=True)
    return torch.cat([checkpoint(_soften, *part, count, softening, use_reentrant=False) for part in blocks])


def _soften(points: torch.Tensor, clusters: torch.Tensor, count: int, softening: Softening) -> torch.Tensor:
    """Returns the points with soft assignments to the means of at most ``count`` clusters."""
    sets, _, coordinates = points.shape
    index = clusters[:, :, None].expand(-1, -1, coordinates)
    sums = points.new_zeros(sets, count, coordinates).scatter_add(1, index, points)
    sizes = points.new_zeros(sets, count).scatter_add(1, clusters, torch.ones_like(points[:, :, 0]))
    exists = sizes > 0
    centroids = sums / sizes.clamp(min=1)[:, :, None]
    # A point's own squared norm shifts all of its distances equally, so it is left out.
    squares = centroids.square().sum(dim=2)[:, None] - 2 * points @ centroids.transpose(1, 2)
    squares = squares.masked_fill(~exists[:, None], float("inf"))
    temperature = softening.temperature * _squared_gap(centroids.detach(), exists)[:, None, None]
    return (-squares / temperature).softmax(dim=2) @ centroids + softening.share * points


def _squared_gap(centroids: torch.Tensor, exists: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared distance from a centroid to the nearest other one, for each set."""
    squares = torch.cdist(centroids, centroids, compute_mode="donot_use_mm_for_euclid_dist").square()
    itself = torch.eye(squares.shape[1], dtype=torch.bool, device=squares.device)
    nearest = squares.masked_fill(itself | ~exists[:, None], float("inf")).amin(dim=2)
    nearest = torch.where(exists & nearest.isfinite(), nearest, 0.0)
    return (nearest.sum(dim=1) / exists.sum(dim=1)).clamp(min=_MIN_SQUARED_GAP)


def _cluster_indices(quantised: torch.Tensor) -> torch.Tensor:
    """Returns numbers from 0 that are equal where points of a set are equal; int64, shape (sets, points)."""
    sets, count, _ = quantised.shape
    indices = torch.full((sets, count), -1, dtype=torch.int64, device=quantised.device)
    every_set = torch.arange(sets, device=quantised.device)
    number = 0
    while (unassigned := indices < 0).any():
        first = unassigned.int().argmax(dim=1)
        same = (quantised == quantised[every_set, first][:, None]).all(dim=2)
        indices = torch.where(unassigned & same, number, indices)
        number += 1
    return indices
