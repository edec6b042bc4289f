"""The 20 Fashion-MNIST images that Foolbox bundles."""

from __future__ import annotations

import dataclasses

from advbench_datasets.fashion_mnist import FASHION_MNIST_CLASSES
from advbench_datasets.foolbox_20 import Foolbox20

__all__ = ["FashionMnist20"]


@dataclasses.dataclass(frozen=True)
class FashionMnist20(Foolbox20):
    """The first 20 images of Fashion-MNIST's test set, bundled with Foolbox: for a first try, not for results."""

    name = "fashion-mnist-20"
    source = "Xiao, Rasul and Vollgraf 2017; bundled by Foolbox (Rauber et al. 2017)"
    image_shape = (1, 28, 28)
    num_classes = 10
    class_names = FASHION_MNIST_CLASSES
    prefix = "fashionMNIST"
    recorded_digest = "09c6ec5c3d92842054d21c1853aa02ad3069fe3a0f7d82240a72218c8922600d"
