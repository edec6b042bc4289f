"""Base class of datasets in files of the user's."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Sequence

from advbench.api import Dataset, DataSources, LabelledImages

__all__ = ["Contents", "OwnImages"]


@dataclasses.dataclass(frozen=True)
class Contents:
    """The content of the user's files.

    Attributes:
        images: The images.
        num_classes: Number of classes.
        class_names: Class names, or None.
        notes: Messages about how the files were read, one sentence each.
    """

    images: LabelledImages
    num_classes: int
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class OwnImages(Dataset):
    """Images in files of the user's; sample ids count from 0."""

    @abstractmethod
    def read(self) -> Contents:
        """Returns the content of the files; called often, so implementations should cache it.

        Raises:
            DataError: The files cannot be used.
        """

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width) of the images."""
        channels, height, width = self.read().images.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """The number of classes."""
        return self.read().num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """The class names, or None."""
        return self.read().class_names

    def notes(self) -> tuple[str, ...]:
        """Returns messages about how the files were read."""
        return self.read().notes

    def ids(self) -> Sequence[int]:
        """Returns the sample ids."""
        return range(len(self.read().images))

    def load(self, sources: DataSources) -> LabelledImages:
        """Returns the images."""
        del sources
        return self.read().images

    def digest(self, sources: DataSources) -> str:
        """Returns the SHA-256 over the images and the number of classes, which other files may define."""
        del sources
        contents = self.read()
        return hashlib.sha256(f"{contents.num_classes} {contents.images.digest()}".encode()).hexdigest()
