"""Exhaustive search over a grid of rotations and shifts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch

from advbench.api import Crafted, Geometric, Goal, for_rows, rotate_shift, widest_float
from advbench_attacks.active_sets import split, store_where
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["Motion", "grid_of_motions", "worst_motion"]


class Motion(NamedTuple):
    """A rotation and a shift.

    Attributes:
        angle: Degrees, counter-clockwise.
        dx: Pixels to the right.
        dy: Pixels downwards.
    """

    angle: float
    dx: float
    dy: float


def grid_of_motions(max_angle: float, angles: int, max_shift: float, shifts: int) -> list[Motion]:
    """All combinations of evenly spaced angles and shifts in both directions, the smallest motions first.

    Args:
        max_angle: The largest angle in degrees.
        angles: The number of angles from -max_angle to max_angle; a single one is 0.
        max_shift: The largest shift in pixels.
        shifts: The number of shifts on each axis from -max_shift to max_shift; a single one is 0.
    """
    along = _evenly_spaced(max_shift, shifts)
    grid = [Motion(*point) for point in itertools.product(_evenly_spaced(max_angle, angles), along, along)]

    def extent(motion: Motion) -> float:
        shift = max(abs(motion.dx), abs(motion.dy))
        return abs(motion.angle) / (max_angle or 1) + shift / (max_shift or 1)

    return sorted(dict.fromkeys(grid), key=extent)


def _evenly_spaced(largest: float, count: int) -> list[float]:
    if count == 1:
        return [0.0]
    return [largest * (2 * step / (count - 1) - 1) for step in range(count)]


@torch.no_grad()
def worst_motion(
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    grid: Sequence[Motion],
    perturbation: Geometric,
    *,
    early_stop: bool = False,
) -> Crafted:
    """The motion of the grid with the largest margin of the goal, for each sample.

    Args:
        model: The attacked classifier; it is evaluated once for each motion.
        images: Clean images, shape (batch, channels, height, width).
        goal: The goal.
        grid: The motions, in the order in which the first of equal ones is kept.
        perturbation: The set, for interpolation and padding.
        early_stop: Whether a sample takes the first motion that reaches its goal, and leaves the batch.

    Returns:
        The rendered images, with the notes ``angle``, ``dx`` and ``dy``.
    """
    motions = torch.tensor(grid, dtype=widest_float(images.device), device=images.device)
    best = images.clone()
    chosen = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    margins = torch.full((len(images),), float("-inf"), device=images.device)
    rows = torch.arange(len(images), device=images.device)
    for number, motion in enumerate(motions):
        angle, dx, dy = motion[:, None].expand(-1, len(images))
        rendered = rotate_shift(
            images, angle, dx, dy, interpolation=perturbation.interpolation, padding=perturbation.padding
        )
        logits = float32_logits(for_rows(model, rows) if early_stop else model, rendered)
        margin = goal.margin(logits)
        store_where(margin > margins[rows], rows, (best, rendered), (margins, margin), (chosen, number))
        if early_stop:
            stopped, active = split(is_adversarial(logits, goal))
            if len(stopped):
                rows, images, goal = rows[active], images[active], goal[active]
            if not len(rows):
                break
    angle, dx, dy = motions[chosen].unbind(dim=1)
    return Crafted(best, {"angle": angle, "dx": dx, "dy": dy})
