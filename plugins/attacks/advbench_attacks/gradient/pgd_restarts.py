"""Random restarts: several runs of an attack, of which each sample keeps its best point."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import Goal, SampleRandom, for_rows
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.gradient.pgd_steps import loss_values
from advbench_attacks.norms import per_image
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["run_with_restarts"]

Run: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, Goal, SampleRandom], torch.Tensor]
"""Takes a model, images, a goal and random streams; returns points, as :meth:`advbench.api.Attack.craft`."""


def run_with_restarts(
    run: Run,
    model: torch.nn.Module,
    images: torch.Tensor,
    goal: Goal,
    rng: SampleRandom,
    *,
    loss: str,
    restarts: int,
) -> torch.Tensor:
    """Runs an attack several times; a sample that a run has broken skips the remaining ones.

    Args:
        run: One run, from random start points.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        rng: The samples' random streams.
        loss: One of :data:`advbench_attacks.losses.LOSSES`, to compare points that are not adversarial.
        restarts: Number of runs; with one, the run's points are returned without evaluating them.

    Returns:
        The points, of the images' shape: the adversarial one, or the one of highest loss.
    """
    if restarts == 1:
        return run(model, images, goal, rng)
    points = images.clone()
    highest = torch.full(goal.labels.shape, -math.inf, device=images.device)
    rows = torch.arange(len(images), device=images.device)
    for _ in range(restarts):
        row_model, row_goal = for_rows(model, rows), goal[rows]
        candidates = run(row_model, images[rows], row_goal, rng[rows])
        with torch.no_grad():
            logits = float32_logits(row_model, candidates)
        values = loss_values(loss, logits, row_goal)
        is_adv = is_adversarial(logits, row_goal)
        improved = is_adv | (values > highest[rows])
        points[rows] = torch.where(per_image(improved), candidates, points[rows])
        highest[rows] = torch.where(improved, values, highest[rows])
        rows = rows[~is_adv]
        if not len(rows):
            break
    return points
