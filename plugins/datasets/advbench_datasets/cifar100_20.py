"""The 20 CIFAR-100 images that Foolbox bundles."""

from __future__ import annotations

import dataclasses

from advbench_datasets.cifar100_classes import CIFAR100_CLASSES
from advbench_datasets.foolbox_20 import Foolbox20

__all__ = ["Cifar100First20"]


@dataclasses.dataclass(frozen=True)
class Cifar100First20(Foolbox20):
    """The first 20 images of CIFAR-100's test set, bundled with Foolbox: for a first try, not for results."""

    name = "cifar100-20"
    source = "Krizhevsky 2009; bundled by Foolbox (Rauber et al. 2017)"
    image_shape = (3, 32, 32)
    num_classes = 100
    class_names = CIFAR100_CLASSES
    prefix = "cifar100"
    recorded_digest = "f45e745b1eef1cf38d8c4bc030cd4131ced04cee3006fe13239bed5d1301fe61"
