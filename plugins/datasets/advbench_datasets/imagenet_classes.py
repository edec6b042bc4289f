"""The names of ImageNet's classes."""

from __future__ import annotations

import functools

__all__ = ["imagenet_class_names"]


@functools.cache
def imagenet_class_names() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes, in the order of the labels, from torchvision's metadata."""
    from torchvision.models import ResNet18_Weights

    return tuple(str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
