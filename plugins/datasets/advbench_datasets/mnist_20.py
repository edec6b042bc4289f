"""The 20 MNIST images that Foolbox bundles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advbench_datasets.bundled import BundledDataset

__all__ = ["Mnist20"]


@dataclasses.dataclass(frozen=True)
class Mnist20(BundledDataset):
    """The first 20 images of MNIST's test set, which come with Foolbox: for a first try, not for results."""

    name = "mnist-20"
    source = "LeCun, Bottou, Bengio and Haffner 1998; bundled by Foolbox (Rauber et al. 2017)"
    image_shape = (1, 28, 28)
    num_classes = 10
    package = "foolbox"
    package_version = "3.3.4"
    size = 20
    recorded_digest = "10fbb6cd1092962fb38e788e29ef6f4ee742f03c1ec9a503dd4460a810255a84"

    def read(self, folder: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Reads ``mnist_00_7.png`` to ``mnist_19_4.png``, named by number and label."""
        from PIL import Image

        files = sorted((folder / "data").glob("mnist_[0-9][0-9]_[0-9].png"))
        images = []
        for file in files:
            with Image.open(file) as image:
                images.append(np.asarray(image, dtype=np.uint8))
        return np.stack(images), np.array([int(file.stem[-1]) for file in files], dtype=np.uint8)
