"""Base class of the sets of 20 images that Foolbox bundles."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from advbench_datasets.bundled import BundledDataset
from advbench_datasets.files import Array

__all__ = ["Foolbox20"]


@dataclasses.dataclass(frozen=True)
class Foolbox20(BundledDataset):
    """20 images, each a PNG named by dataset, index and label.

    Attributes:
        prefix: Prefix of the file names.
    """

    prefix: ClassVar[str]
    package = "foolbox"
    package_version = "3.3.4"
    size = 20

    def read(self, folder: Path) -> tuple[Array, Array]:
        """Reads ``<prefix>_00_7.png`` to ``<prefix>_19_4.png``."""
        from PIL import Image

        files = sorted((folder / "data").glob(f"{self.prefix}_[0-9][0-9]_*.png"))
        images = []
        for file in files:
            with Image.open(file) as image:
                images.append(np.atleast_3d(np.asarray(image, dtype=np.uint8)).transpose(2, 0, 1))
        return np.stack(images), np.array([int(file.stem.rpartition("_")[2]) for file in files], dtype=np.uint8)
