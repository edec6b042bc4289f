"""The contract of datasets."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from advbench.api.component import Component
from advbench.errors import DataError

__all__ = ["DataSources", "Dataset", "LabelledImages"]


def _silent(message: str) -> None:
    """Drops a message."""


@dataclasses.dataclass(frozen=True)
class DataSources:
    """Where datasets may look for their files.

    Attributes:
        cache_dir: Folder for what was downloaded and decoded; created when first written to.
        data_dir: The user's own folder (``--data-dir``), looked at first; None where not given.
        download: Whether anything may be downloaded.
        announce: Called with one line before anything slow, such as a download.
    """

    cache_dir: Path
    data_dir: Path | None = None
    download: bool = True
    announce: Callable[[str], None] = dataclasses.field(default=_silent, compare=False)


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Labelled images with their stable sample ids.

    Attributes:
        images: uint8 in [0, 255] or float32 in [0, 1], shape (n, channels, height, width).
        labels: int64, shape (n,).
        ids: int64, shape (n,), ascending, no two equal.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """The images (float32 in [0, 1]) and labels of these sample ids, in this order.

        Raises:
            DataError: An id is not there.
        """
        wanted = torch.as_tensor(list(ids), dtype=torch.int64)
        positions = torch.searchsorted(self.ids, wanted).clamp(max=max(len(self.ids) - 1, 0))
        if not torch.equal(self.ids[positions], wanted):
            unknown = wanted[self.ids[positions] != wanted]
            raise DataError(f"sample id {int(unknown[0])} is not in the dataset")
        images = self.images[positions]
        if images.dtype == torch.uint8:
            images = images.to(torch.float32) / 255
        return images, self.labels[positions]

    def without(self, others: LabelledImages) -> LabelledImages:
        """These without the images that are also among the others, found by their pixels; ids are kept."""
        excluded = {image.tobytes() for image in others.images.numpy()}
        keep = torch.tensor([image.tobytes() not in excluded for image in self.images.numpy()], dtype=torch.bool)
        return LabelledImages(self.images[keep], self.labels[keep], self.ids[keep])

    def digest(self) -> str:
        """SHA-256 over images, labels and ids."""
        sha = hashlib.sha256()
        for tensor in (self.images, self.labels, self.ids):
            array = tensor.contiguous().numpy()
            sha.update(f"{array.dtype}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data)
        return sha.hexdigest()


@dataclasses.dataclass(frozen=True)
class Dataset(Component):
    """Labelled images; every image has a stable integer sample id.

    Attributes:
        image_shape: (channels, height, width); a property where it depends on the parameters.
        num_classes: How many classes; labels run from 0; as above.
        class_names: What reports call the classes, a text each in the order of the labels, or None; as above.
    """

    image_shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int]
    class_names: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def ids(self) -> Sequence[int]:
        """The sample ids, ascending, known without reading the images."""

    @abstractmethod
    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the dataset, downloading it first where it must and may.

        Raises:
            DataError: It is nowhere to be had, or what is there is damaged; the message says what to do.
        """

    def digest(self, sources: DataSources) -> str:
        """SHA-256 that stands for the content; a part of every key.

        A dataset whose content is fixed returns a recorded digest, which its :meth:`load` verifies, so
        that stored results are found without reading it. By default the dataset is read.
        """
        return self.load(sources).digest()

    def notes(self) -> Sequence[str]:
        """What users should know of the data, such as files that were left out: sentences of one line each.

        They stand on stderr when a run begins, and in its results.
        """
        return ()

    def location(self, sources: DataSources) -> str | None:
        """Where the dataset lies without any download, in words; None where it must be downloaded."""
        del sources
        return f"read by {type(self).__name__}"
