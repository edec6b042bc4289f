"""Several runs of an attack from random points, of which each sample keeps its best."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import SampleRandom, for_rows
from advbench_attacks.answers import ask
from advbench_attacks.gradient.pgd_steps import loss_values
from advbench_attacks.input_gradients import each, lead

__all__ = ["restarted"]

Run: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""A model, images, labels and random streams to points, as :meth:`advbench.api.Attack.run`."""


def restarted(
    run: Run,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    rng: SampleRandom,
    *,
    loss: str,
    restarts: int,
) -> torch.Tensor:
    """Runs an attack so many times; a sample that a run has fooled takes part in no further one.

    Args:
        run: One run, from points that it draws.
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        rng: The samples' random streams.
        loss: One of :data:`advbench_attacks.logit_differences.LOSSES`, to compare points by that fool nothing.
        restarts: How many runs; with one, nothing is asked of the model but what the run asks.

    Returns:
        The points, of the images' shape: the one that fools the model, or the one of highest loss.
    """
    if restarts == 1:
        return run(model, images, labels, rng)
    points = images.clone()
    highest = torch.full(labels.shape, -math.inf, device=images.device)
    rows = torch.arange(len(images), device=images.device)
    for _ in range(restarts):
        among, true = for_rows(model, rows), labels[rows]
        found = run(among, images[rows], true, rng[rows])
        with torch.no_grad():
            logits = ask(among, found)
        values = loss_values(loss, logits, true)
        hit = lead(logits, true)
        better = hit | (values > highest[rows])
        points[rows] = torch.where(each(better), found, points[rows])
        highest[rows] = torch.where(better, values, highest[rows])
        rows = rows[~hit]
        if not len(rows):
            break
    return points
