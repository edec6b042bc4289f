"""Base class of datasets that are published as MNIST is: four IDX files with MNIST's names."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping

import numpy as np

from advbench_datasets.downloadable import DownloadableDataset
from advbench_datasets.files import Array, Arrays, PublishedFiles
from advbench_datasets.idx import decode_idx

__all__ = ["TEST", "TRAIN", "IdxDataset", "idx_files"]

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_files(title: str, digests: Mapping[str, str], folders: tuple[str, ...], namesakes: str) -> PublishedFiles:
    """Returns the four published files, plain or gzipped; the arguments are those of :class:`PublishedFiles`."""
    return PublishedFiles(
        title=title,
        digests=digests,
        decoders={"": decode_idx, ".gz": lambda content: decode_idx(gzip.decompress(content))},
        folders=folders,
        namesakes=namesakes,
    )


@dataclasses.dataclass(frozen=True)
class IdxDataset(DownloadableDataset):
    """A dataset in four IDX files: images and labels for training and for testing."""

    def assemble(self, arrays: Arrays) -> tuple[Array, Array]:
        """Concatenates the files of images, and those of labels."""
        images = np.concatenate([array for name, array in arrays.items() if "images" in name])
        labels = np.concatenate([array for name, array in arrays.items() if "labels" in name])
        return images[:, np.newaxis], labels
