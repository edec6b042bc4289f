"""The success criterion of attacks: a margin that exceeds 0 by more than rounding could explain."""

from __future__ import annotations

import torch

from advbench.api import Goal

__all__ = ["is_adversarial", "margin_above_tolerance", "rounding_tolerance"]

_RELATIVE_TOLERANCE = 1e-5
"""The tolerance as a share of the largest absolute logit."""

_MAX_OFFSET = 10.0
"""Where logits exceed their range by more than this factor, the excess is a common offset and does not count."""

_OFFSET_TOLERANCE = 1e-6
"""The least tolerance as a share of the largest absolute logit, offset included: ten times float32 rounding."""

_RULED_OUT_FACTOR = 1e3
"""A logit below zero by more than this many times (1 + the absolute value of the highest logit) is ignored."""


def is_adversarial(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns whether the goal is reached by more than rounding may change in another batch: bool, shape (batch,)."""
    return margin_above_tolerance(logits, goal) > 0


def margin_above_tolerance(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns the goal's margin less :func:`rounding_tolerance`; shape (batch,)."""
    return goal.margin(logits) - rounding_tolerance(logits)


def rounding_tolerance(logits: torch.Tensor) -> torch.Tensor:
    """Returns by how much rounding may change a difference of a sample's logits in another batch; shape (batch,)."""
    high = logits.amax(dim=1)
    # A logit far below the others, such as -1e9 for a masked class, says nothing about their rounding.
    ruled_out = logits < -_RULED_OUT_FACTOR * (1 + high.abs()[:, None])
    low = logits.masked_fill(ruled_out, float("inf")).amin(dim=1)
    largest = torch.maximum(-low, high)
    relative = _RELATIVE_TOLERANCE * torch.minimum(largest, _MAX_OFFSET * (high - low))
    return torch.maximum(relative, _OFFSET_TOLERANCE * largest)
