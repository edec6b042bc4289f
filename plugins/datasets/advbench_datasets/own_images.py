"""What datasets of the user's own have in common: all that they say is read from the user's files."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import abstractmethod
from collections.abc import Sequence

from advbench.api import Dataset, DataSources, LabelledImages

__all__ = ["Contents", "OwnImages"]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the files hold.

    Attributes:
        images: The images.
        num_classes: How many classes there are.
        class_names: Their names, or None.
        notes: What the user should know of how the files were read, a sentence each.
    """

    images: LabelledImages
    num_classes: int
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class OwnImages(Dataset):
    """Images that the user's files hold; sample ids count them from 0."""

    @abstractmethod
    def read(self) -> Contents:
        """What the files hold; asked often, so that it remembers what it has read.

        Raises:
            DataError: The files cannot be used.
        """

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width) of the images that are there."""
        channels, height, width = self.read().images.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """How many classes there are."""
        return self.read().num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:  # type: ignore[override]
        """The names of the classes, or None."""
        return self.read().class_names

    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the files were read."""
        return self.read().notes

    def ids(self) -> Sequence[int]:
        """The sample ids."""
        return range(len(self.read().images))

    def load(self, sources: DataSources) -> LabelledImages:
        """The images."""
        del sources
        return self.read().images

    def digest(self, sources: DataSources) -> str:
        """SHA-256 over the images and the number of classes, which files beside the images may fix."""
        del sources
        contents = self.read()
        return hashlib.sha256(f"{contents.num_classes} {contents.images.digest()}".encode()).hexdigest()
