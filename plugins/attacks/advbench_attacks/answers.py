"""What a classifier answers, as attacks compute with it: float32 logits."""

from __future__ import annotations

import torch

__all__ = ["ask"]


def ask(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The model's logits of some images as float32, whatever floating dtype it returns.

    In float16 a loss overflows at 65,504 and has three digits. In float64 it does not go with the images and distances
    of an attack, which are float32. A gradient with respect to the images passes through the conversion.

    Args:
        model: Classifier in eval mode.
        images: At least one image, float32 in [0, 1], shape (batch, channels, height, width).

    Returns:
        float32, shape (batch, classes).
    """
    logits: torch.Tensor = model(images)
    return logits.float()
