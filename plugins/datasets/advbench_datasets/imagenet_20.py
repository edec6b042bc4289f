"""The 20 ImageNet photographs that Foolbox bundles."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np

from advbench.api import DataSources, LabelledImages, param
from advbench_datasets.bundled import BundledDataset
from advbench_datasets.files import Array
from advbench_datasets.image_files import INTERPOLATIONS, ReadOptions
from advbench_datasets.imagenet_images import ImageNetImages

__all__ = ["ImageNet20"]


@dataclasses.dataclass(frozen=True)
class ImageNet20(ImageNetImages, BundledDataset):
    """20 photographs of ImageNet, bundled with Foolbox: for a first try, not for results.

    Each is resized and cropped as is usual for ImageNet: its shorter side to ``resize`` pixels, then its centre square
    of ``crop`` pixels. Foolbox does not say which part of ImageNet they come from, so that a network may have been
    trained on them.
    """

    name: ClassVar[str] = "imagenet-20"
    source: ClassVar[str] = "Russakovsky et al. 2015; bundled by Foolbox (Rauber et al. 2017)"
    package: ClassVar[str] = "foolbox"
    package_version: ClassVar[str] = "3.3.4"
    size: ClassVar[int] = 20
    recorded_digest: ClassVar[str] = "6103fb0bc78e595c2306f95f501f1ee0675678c114369758cf7aaf4962c5603f"
    """SHA-256 of the files' bytes: what a decoder makes of a JPEG may differ in the last bit."""

    resize: int = param(256, min=1, help="pixels of the shorter side to resize to")
    crop: int = param(224, min=1, help="side of the square to crop from the centre, at most resize")
    interpolation: str = param("bicubic", choices=INTERPOLATIONS, help="filter for resizing")

    def read(self, folder: Path) -> tuple[Array, Array]:
        """Reads ``imagenet_00_243.jpg`` to ``imagenet_19_305.jpg``."""
        options = ReadOptions(self.name, "RGB", self.interpolation, resize=(self.resize,), crop=(self.crop,))
        files = _files(folder)
        images = np.stack([options.pixels(file) for file in files])
        return images, np.array([int(file.stem.rpartition("_")[2]) for file in files], dtype=np.uint16)

    def is_recorded(self, folder: Path, data: LabelledImages) -> bool:
        """Returns whether the files in the package's folder are the recorded ones."""
        del data
        sha = hashlib.sha256()
        for file in _files(folder):
            sha.update(file.name.encode() + file.read_bytes())
        return sha.hexdigest() == self.recorded_digest

    def digest(self, sources: DataSources) -> str:
        """Returns the SHA-256 of the decoded images."""
        return _digest(self, sources)


def _files(folder: Path) -> list[Path]:
    return sorted((folder / "data").glob("imagenet_[0-9][0-9]_*.jpg"))


@functools.lru_cache(maxsize=4)
def _digest(dataset: ImageNet20, sources: DataSources) -> str:
    return dataset.load(sources).digest()
