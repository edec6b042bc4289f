"""Calls of the attacked classifier: logits as float32, and whether images are misclassified."""

from __future__ import annotations

import torch

__all__ = ["float32_logits", "misclassified"]


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


def misclassified(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Returns whether the model misclassifies each image: bool, shape (batch,)."""
    with torch.no_grad():
        return float32_logits(model, images).argmax(dim=1) != labels
