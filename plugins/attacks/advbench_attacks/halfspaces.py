"""The nearest point of a half-space's boundary that lies in [0, 1]."""

from __future__ import annotations

import torch

from advbench.api import Norm
from advbench_attacks.input_gradients import each

__all__ = ["to_boundary"]

_ROUNDS = 8
"""Newton's steps towards the root of a concave function of straight pieces; on MNIST 6 meet it exactly."""

_FAR = 1e30
"""What brings every value to its bound, and times 0 is 0."""


def to_boundary(points: torch.Tensor, normals: torch.Tensor, offsets: torch.Tensor, norm: Norm) -> torch.Tensor:
    """The smallest changes that bring points to planes and leave them in [0, 1].

    The plane of a sample is {p : ⟨normal, p − point⟩ + offset = 0}. Value i of the change is
    ±min(r · aᵢ, roomᵢ), against the sign of the offset, where roomᵢ is the way to the bound, aᵢ is 1 in L∞ and
    |normalᵢ| in L2, and r solves Σ |normalᵢ| · min(r · aᵢ, roomᵢ) = |offset|. (The projection of Croce and Hein
    2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, section 2.1, as the root
    of one concave function.) In L1 the values of the largest weights go to their bounds, the last of them part of the
    way.

    Args:
        points: In [0, 1], shape (batch, channels, height, width).
        normals: The planes' normals, of the points' shape.
        offsets: Shape (batch,).
        norm: ``linf``, ``l2`` or ``l1``.

    Returns:
        The changes, of the points' shape. Where [0, 1] does not meet the plane, the change leads to the point of
        it that is nearest to the plane; where the normal is 0, it is 0.
    """
    signs = -each(offsets.sign()) * normals.sign()
    room = torch.where(signs > 0, 1 - points, points).flatten(1)
    weights = normals.abs().flatten(1)
    tiny = torch.finfo(weights.dtype).tiny
    # At largest weight 1 no square rounds to 0 or infinity that counts.
    largest = weights.amax(dim=1, keepdim=True).clamp(min=tiny)
    weights = weights / largest
    wanted = offsets.abs()[:, None] / largest
    if norm == "l1":
        return signs * _by_weight(weights, room, wanted).reshape(points.shape)
    speeds = torch.ones_like(weights) if norm == "linf" else weights
    gains = weights * speeds
    reach = torch.where((weights * room).sum(dim=1, keepdim=True) < wanted, _FAR, 0.0)
    for _ in range(_ROUNDS):
        moved = reach * speeds
        slope = (gains * (moved < room)).sum(dim=1, keepdim=True)
        missing = wanted - (weights * torch.minimum(moved, room)).sum(dim=1, keepdim=True)
        # From below the root the tangent never leads beyond it; what is past it is rounding.
        before, reach = reach, (reach + missing.clamp(min=0) / slope.clamp(min=tiny)).clamp(max=_FAR)
        # A GPU would have to be waited for, which takes longer than the rounds that are left.
        if not reach.is_cuda and torch.equal(before, reach):
            break
    changes: torch.Tensor = signs * torch.minimum(reach * speeds, room).reshape(points.shape)
    return changes


def _by_weight(weights: torch.Tensor, room: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The values, each from 0 to its room, of the smallest sum whose sum by weight is what is wanted."""
    order = weights.argsort(dim=1, descending=True, stable=True)
    gains = (weights * room).gather(1, order)
    left = (wanted - (gains.cumsum(dim=1) - gains)).clamp(min=0)
    share = (left / gains.clamp(min=torch.finfo(gains.dtype).tiny)).clamp(max=1)
    return torch.zeros_like(room).scatter_(1, order, share) * room
