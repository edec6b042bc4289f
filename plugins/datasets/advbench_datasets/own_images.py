"""What datasets of the user's own have in common: all that they say is read from the user's files."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence

from advbench.api import Dataset, DataSources, LabelledImages

__all__ = ["OwnImages"]


@dataclasses.dataclass(frozen=True)
class OwnImages(Dataset):
    """Images that the user's files hold; sample ids count them from 0."""

    @abstractmethod
    def read(self) -> tuple[LabelledImages, int]:
        """The images and the number of classes; asked often, so that it remembers what it has read.

        Raises:
            DataError: The files cannot be used.
        """

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """(channels, height, width) of the images that are there."""
        channels, height, width = self.read()[0].images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """How many classes there are."""
        return self.read()[1]

    def ids(self) -> Sequence[int]:
        """The sample ids."""
        return range(len(self.read()[0]))

    def load(self, sources: DataSources) -> LabelledImages:
        """The images."""
        del sources
        return self.read()[0]
