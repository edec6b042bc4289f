"""The contract of datasets."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from advbench.api.component import Component
from advbench.errors import DataError

if TYPE_CHECKING:
    import torch

__all__ = ["DataSources", "Dataset", "LabelledImages"]


def _silent(message: str) -> None:
    """Ignores a message."""


@dataclasses.dataclass(frozen=True)
class DataSources:
    """Where datasets look for their files.

    Attributes:
        cache_dir: Folder for downloaded and decoded files; created at the first write.
        data_dir: The user's own folder (``--data-dir``), searched first; None if not given.
        download: Whether downloads are allowed.
        announce: Called with a one-line message before slow work, such as a download.
    """

    cache_dir: Path
    data_dir: Path | None = None
    download: bool = True
    announce: Callable[[str], None] = dataclasses.field(default=_silent, compare=False)


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """Images with labels and stable sample ids.

    Attributes:
        images: uint8 in [0, 255] or float32 in [0, 1], shape (n, channels, height, width).
        labels: int64, shape (n,).
        ids: int64, shape (n,), ascending and unique.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, ids: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Selects samples by id.

        Args:
            ids: Sample ids, in any order.

        Returns:
            Images, float32 in [0, 1], and labels, in the order of the ids.

        Raises:
            DataError: The dataset has no sample with one of the ids.
        """
        import torch

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
        """Removes the images that also occur in another set, by comparing pixels. The ids of the others are kept."""
        import torch

        excluded = {image.tobytes() for image in others.images.numpy()}
        keep = torch.tensor([image.tobytes() not in excluded for image in self.images.numpy()], dtype=torch.bool)
        return LabelledImages(self.images[keep], self.labels[keep], self.ids[keep])

    def digest(self) -> str:
        """SHA-256 over images, labels and ids."""
        import numpy as np

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
        image_shape: (channels, height, width). A property if it depends on the parameters.
        num_classes: Number of classes; labels are 0 to num_classes - 1. May be a property.
        class_names: Names of the classes in reports, in the order of the labels, or None. May be a property.
    """

    image_shape: ClassVar[tuple[int, int, int]]
    num_classes: ClassVar[int]
    class_names: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def ids(self) -> Sequence[int]:
        """The sample ids, ascending. Must not need to read the images."""

    @abstractmethod
    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the dataset. Downloads it first if it is not there and downloads are allowed.

        Raises:
            DataError: The dataset is not available or is damaged; the message says what to do.
        """

    def digest(self, sources: DataSources) -> str:
        """SHA-256 of the content; a part of every key.

        By default this reads the dataset. A dataset with fixed content should return a recorded digest, which its
        :meth:`load` verifies, so that stored results can be looked up without reading the data.
        """
        return self.load(sources).digest()

    def notes(self) -> Sequence[str]:
        """Remarks for users, such as which files were skipped; one line each.

        They are printed on stderr at the start of a run and stored in its results.
        """
        return ()

    def location(self, sources: DataSources) -> str | None:
        """Where the dataset is available without a download, in words; None if it is not available."""
        del sources
        return f"read by {type(self).__name__}"

    def how_to_get(self) -> str:
        """How to get the dataset if :meth:`location` is None; one line, which ``advbench doctor`` shows."""
        return "the first use downloads it; or give your own copy with --data-dir DIR"
