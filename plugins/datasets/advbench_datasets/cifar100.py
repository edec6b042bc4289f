"""All 60,000 images of CIFAR-100."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from advbench.api import DataError
from advbench_datasets.cifar100_classes import CIFAR100_CLASSES
from advbench_datasets.cifar_pickles import load_batch
from advbench_datasets.downloadable import DownloadableDataset, Split
from advbench_datasets.files import Array, Arrays, PublishedFiles

__all__ = ["Cifar100"]

DIGESTS: Mapping[str, str] = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
}
"""MD5 of each file of the Python version, as torchvision has them."""


def _split(ids: range, *files: str) -> Split:
    """Returns a split whose digest follows from those of its files."""
    text = " ".join(f"{name} {DIGESTS[name]}" for name in files)
    return Split(ids, files, hashlib.sha256(f"cifar100 {text}".encode()).hexdigest())


SPLITS: Mapping[str, Split] = {
    "test": _split(range(50_000, 60_000), "test"),
    "train": _split(range(50_000), "train"),
    "all": _split(range(60_000), "train", "test"),
}


@dataclasses.dataclass(frozen=True)
class Cifar100(DownloadableDataset):
    """60,000 small colour photographs of a hundred kinds of things; read from --data-dir, or downloaded once and kept.

    Training images have the sample ids 0 to 49999, test images 50000 to 59999, in every split. The labels are the
    fine ones.
    """

    name = "cifar100"
    source = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, chapter 3"
    image_shape = (3, 32, 32)
    num_classes = 100
    class_names = CIFAR100_CLASSES
    files = PublishedFiles(
        title="CIFAR-100",
        digests=DIGESTS,
        decoders={"": lambda content: np.frombuffer(content, dtype=np.uint8)},
        folders=(".", "cifar-100-python"),
        algorithm="md5",
    )
    splits = SPLITS
    data_dir_help = "train and test (the Python version; unpacked, with or without its cifar-100-python/)"
    torchvision_class = "CIFAR100"
    download_size = "170 MB"
    download_seconds = 1800

    def assemble(self, arrays: Arrays) -> tuple[Array, Array]:
        """Decodes the files, whose bytes the arrays are."""
        try:
            batches = [load_batch(array.tobytes(), b"fine_labels") for array in arrays.values()]
        except ValueError as error:
            raise DataError(f"CIFAR-100 cannot be decoded: {error}") from error
        pixels, labels = zip(*batches, strict=True)
        return np.concatenate(pixels).reshape(-1, *self.image_shape), np.concatenate(labels)
