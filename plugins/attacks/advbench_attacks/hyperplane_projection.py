"""Projection onto a hyperplane within [0, 1]."""

from __future__ import annotations

import torch

from advbench.api import Norm
from advbench_attacks.norms import per_image

__all__ = ["step_to_hyperplane"]

_NEWTON_STEPS = 8
"""Newton steps for the root of a concave, piecewise linear function; on MNIST, 6 reach it exactly."""

_INFINITE_STEP = 1e30
"""A step that moves every value to its bound; finite, so that its product with 0 is 0."""


def step_to_hyperplane(points: torch.Tensor, normals: torch.Tensor, offsets: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Computes the smallest steps from points to hyperplanes that stay within [0, 1].

    A sample's hyperplane is {p : ⟨normal, p − point⟩ + offset = 0}. Value i of the step is ±min(r · aᵢ, slackᵢ), with
    the sign that reduces the offset. slackᵢ is the distance to the bound; aᵢ is 1 in L∞ and |normalᵢ| in L2; r solves Σ
    |normalᵢ| · min(r · aᵢ, slackᵢ) = |offset|. This is the projection of Croce and Hein 2020, Minimally distorted
    adversarial examples with a fast adaptive boundary attack, section 2.1, written as the root of one concave function.
    In L1, the values of largest weight move to their bounds, the last of them partly.

    Args:
        points: In [0, 1], shape (batch, channels, height, width).
        normals: The hyperplanes' normals, of the points' shape.
        offsets: Shape (batch,).
        norm: ``linf``, ``l2`` or ``l1``.

    Returns:
        The steps, of the points' shape. Where no point of [0, 1] lies on the hyperplane, the step leads to the point
        closest to it; where the normal is 0, the step is 0.
    """
    signs = -per_image(offsets.sign()) * normals.sign()
    slack = torch.where(signs > 0, 1 - points, points).flatten(1)
    weights = normals.abs().flatten(1)
    tiny = torch.finfo(weights.dtype).tiny
    # With a largest weight of 1, squares that matter neither underflow nor overflow.
    largest = weights.amax(dim=1, keepdim=True).clamp(min=tiny)
    weights = weights / largest
    target = offsets.abs()[:, None] / largest
    if norm == "l1":
        return signs * _greedy_by_weight(weights, slack, target).reshape(points.shape)
    speeds = torch.ones_like(weights) if norm == "linf" else weights
    gains = weights * speeds
    step = torch.where((weights * slack).sum(dim=1, keepdim=True) < target, _INFINITE_STEP, 0.0)
    for _ in range(_NEWTON_STEPS):
        unclipped = step * speeds
        slope = (gains * (unclipped < slack)).sum(dim=1, keepdim=True)
        residual = target - (weights * torch.minimum(unclipped, slack)).sum(dim=1, keepdim=True)
        # A tangent from below the root never overshoots it; any overshoot is rounding.
        previous, step = step, (step + residual.clamp(min=0) / slope.clamp(min=tiny)).clamp(max=_INFINITE_STEP)
        # On an accelerator, the comparison would wait, which takes longer than the remaining steps.
        if step.device.type == "cpu" and torch.equal(previous, step):
            break
    steps: torch.Tensor = signs * torch.minimum(step * speeds, slack).reshape(points.shape)
    return steps


def _greedy_by_weight(weights: torch.Tensor, slack: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Returns values of smallest sum, each from 0 to its slack, whose weighted sum is the target."""
    order = weights.argsort(dim=1, descending=True, stable=True)
    gains = (weights * slack).gather(1, order)
    remaining = (target - (gains.cumsum(dim=1) - gains)).clamp(min=0)
    share = (remaining / gains.clamp(min=torch.finfo(gains.dtype).tiny)).clamp(max=1)
    return torch.zeros_like(slack).scatter_(1, order, share) * slack
