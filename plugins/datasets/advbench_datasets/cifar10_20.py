"""The 20 CIFAR-10 images that Foolbox bundles."""

from __future__ import annotations

import dataclasses

from advbench_datasets.cifar10_batches import CIFAR10_CLASSES
from advbench_datasets.foolbox_20 import Foolbox20

__all__ = ["Cifar10First20"]


@dataclasses.dataclass(frozen=True)
class Cifar10First20(Foolbox20):
    """The first 20 images of CIFAR-10's test set, bundled with Foolbox: for a first try, not for results."""

    name = "cifar10-20"
    source = "Krizhevsky 2009; bundled by Foolbox (Rauber et al. 2017)"
    image_shape = (3, 32, 32)
    num_classes = 10
    class_names = CIFAR10_CLASSES
    prefix = "cifar10"
    recorded_digest = "2c87350a220f803b176023e423735ce817aeb22588dc5994ad7f88936b853b28"
