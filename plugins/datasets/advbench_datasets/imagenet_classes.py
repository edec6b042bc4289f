"""The classes of ImageNet: their WordNet ids, which name the folders of images, and their names."""

from __future__ import annotations

import functools
from importlib import resources

__all__ = ["imagenet_class_names", "imagenet_synsets"]


@functools.cache
def imagenet_class_names() -> tuple[str, ...]:
    """Returns the names of the 1,000 classes, in the order of the labels, from torchvision's metadata."""
    from torchvision.models import ResNet18_Weights

    return tuple(str(name) for name in ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


@functools.cache
def imagenet_synsets() -> tuple[str, ...]:
    """Returns the WordNet ids of the 1,000 classes of ILSVRC 2012, in the order of the labels: sorted."""
    return tuple((resources.files("advbench_datasets") / "imagenet_synsets.txt").read_text("ascii").split())
