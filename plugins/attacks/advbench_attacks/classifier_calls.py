"""Calls of the attacked classifier: logits as float32, and whether images reach the goal."""

from __future__ import annotations

import torch

from advbench.api import Goal, for_rows, has_limited_queries, is_stochastic

__all__ = ["float32_logits", "reaches_goal", "reaches_goal_in_batch"]


def float32_logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Returns the logits of a batch as float32, whatever floating dtype the model returns.

    In float16, losses overflow at 65,504 and have three significant digits. In float64, logits do not mix with the
    images and distances of an attack, which are float32. Gradients with respect to the images pass through the cast.

    Args:
        model: Classifier in eval mode.
        images: At least one image, float32 in [0, 1], shape (batch, channels, height, width).

    Returns:
        float32, shape (batch, classes).
    """
    logits: torch.Tensor = model(images)
    return logits.float()


def reaches_goal(model: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns whether the model's prediction for each image is what the goal wants: bool, shape (batch,)."""
    with torch.no_grad():
        return goal.reached(float32_logits(model, images))


def reaches_goal_in_batch(model: torch.nn.Module, points: torch.Tensor, goal: Goal, rows: torch.Tensor) -> torch.Tensor:
    """Returns whether some samples reach the goal when they are evaluated with the whole batch, as rounding may differ.

    If the classifier is stochastic, or queries are limited, these samples alone are evaluated: the number of queries of
    a sample, and so its random draws, must not depend on the rest of the batch.

    Args:
        model: The classifier.
        points: Points of all samples, shape (batch, channels, height, width).
        goal: The goal of the whole batch.
        rows: The samples in question.

    Returns:
        bool, shape (rows,).
    """
    if is_stochastic(model) or has_limited_queries(model):
        return reaches_goal(for_rows(model, rows), points[rows], goal[rows])
    return reaches_goal(model, points, goal)[rows]
