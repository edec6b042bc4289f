"""The 20 MNIST images that Foolbox bundles."""

from __future__ import annotations

import dataclasses

from advbench_datasets.foolbox_20 import Foolbox20

__all__ = ["Mnist20"]


@dataclasses.dataclass(frozen=True)
class Mnist20(Foolbox20):
    """The first 20 images of MNIST's test set, bundled with Foolbox: for a first try, not for results."""

    name = "mnist-20"
    source = "LeCun, Bottou, Bengio and Haffner 1998; bundled by Foolbox (Rauber et al. 2017)"
    image_shape = (1, 28, 28)
    num_classes = 10
    prefix = "mnist"
    recorded_digest = "10fbb6cd1092962fb38e788e29ef6f4ee742f03c1ec9a503dd4460a810255a84"
