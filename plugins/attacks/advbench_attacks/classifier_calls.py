"""Calls of the attacked classifier: logits as float32, and whether images reach the goal."""

from __future__ import annotations

import torch

from advbench.api import Goal

__all__ = ["float32_logits", "reaches_goal"]


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
