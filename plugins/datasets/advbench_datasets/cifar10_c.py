"""CIFAR-10-C: the test images of CIFAR-10 under common corruptions, in its authors' files."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tokenize
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import DataError, Dataset, DataSources, LabelledImages, param
from advbench_datasets.cifar10_batches import CIFAR10_CLASSES

__all__ = ["CORRUPTIONS", "Cifar10C"]

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
    "speckle_noise", "gaussian_blur", "spatter", "saturate",
)  # fmt: skip
"""The benchmark's fifteen corruptions, and the four for validation."""

TEST_IMAGES = 10_000
LABELS_DIGEST = "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"
"""SHA-256 of the labels of CIFAR-10's test set, one byte each."""

_REMEDY = (
    "download CIFAR-10-C.tar from zenodo.org/records/2535967 (MD5 56bf5dcef84df0e2308c6dcbcbbd8499), unpack it, and "
    "give its folder as --data-dir"
)


@dataclasses.dataclass(frozen=True)
class Cifar10C(Dataset):
    """CIFAR-10's test images under a corruption: ``cifar10-c:corruption=fog,severity=3``, read from --data-dir.

    The sample ids are those of the dataset ``cifar10``, 50000 to 59999. The files are those of the dataset's authors;
    advbench's own corruptions, such as the attack ``fog``, draw other numbers.
    """

    name: ClassVar[str] = "cifar10-c"
    source: ClassVar[str] = (
        "Hendrycks and Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations"
    )
    image_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    num_classes: ClassVar[int] = 10
    class_names: ClassVar[tuple[str, ...] | None] = CIFAR10_CLASSES

    corruption: str = param(choices=CORRUPTIONS, help="name of the file, without .npy")
    severity: int = param(3, min=1, max=5, help="strength of the corruption")

    def ids(self) -> Sequence[int]:
        """Returns the sample ids, which are those of CIFAR-10's test images."""
        return range(50_000, 50_000 + TEST_IMAGES)

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the images of the severity.

        Raises:
            DataError: --data-dir does not have the files, or they are not CIFAR-10-C's.
        """
        return self._read(sources)[0]

    def digest(self, sources: DataSources) -> str:
        """Returns the SHA-256 of the images."""
        return self._read(sources)[1]

    def location(self, sources: DataSources) -> str | None:
        """Returns the folder of the files, or None."""
        folder = self._folder(sources)
        return str(folder) if folder else None

    def how_to_get(self) -> str:
        """Returns where its authors publish it."""
        return _REMEDY

    def _folder(self, sources: DataSources) -> Path | None:
        if sources.data_dir is None:
            return None
        folders = (sources.data_dir, sources.data_dir / "CIFAR-10-C")
        names = f"{self.corruption}.npy", "labels.npy"
        return next((folder for folder in folders if all((folder / name).is_file() for name in names)), None)

    def _read(self, sources: DataSources) -> tuple[LabelledImages, str]:
        folder = self._folder(sources)
        if folder is None:
            given = "not given" if sources.data_dir is None else f"{sources.data_dir} does not have them"
            raise DataError(
                f"{self.name} is read from files, {self.corruption}.npy and labels.npy (--data-dir: {given}): {_REMEDY}"
            )
        status = (folder / f"{self.corruption}.npy").stat()
        return _load(folder, self.corruption, self.severity, (status.st_size, status.st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _load(folder: Path, corruption: str, severity: int, state: tuple[int, int]) -> tuple[LabelledImages, str]:
    """Reads the images of one severity, and returns them with their digest; cached as long as the file is unchanged."""
    del state
    rows = slice((severity - 1) * TEST_IMAGES, severity * TEST_IMAGES)
    labels = _rows(folder / "labels.npy", (5 * TEST_IMAGES,), rows).astype(np.int64)
    pixels = _rows(folder / f"{corruption}.npy", (5 * TEST_IMAGES, 32, 32, 3), rows)
    if pixels.dtype != np.uint8:
        raise DataError(f"cifar10-c: {folder / corruption}.npy has values of {pixels.dtype}, not uint8: {_REMEDY}")
    if hashlib.sha256(labels.astype(np.uint8).tobytes()).hexdigest() != LABELS_DIGEST:
        raise DataError(f"cifar10-c: {folder / 'labels.npy'} has other labels than CIFAR-10's test set: {_REMEDY}")
    images = LabelledImages(
        torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))),
        torch.from_numpy(labels),
        torch.arange(50_000, 50_000 + TEST_IMAGES),
    )
    return images, images.digest()


def _rows(file: Path, shape: tuple[int, ...], rows: slice) -> npt.NDArray[Any]:
    """Reads some rows of an array file, without unpickling."""
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise DataError(f"cifar10-c: {file} is damaged ({error}): {_REMEDY}") from error
    if array.shape != shape:
        raise DataError(f"cifar10-c: {file} has the shape {array.shape}, not {shape}: {_REMEDY}")
    return np.array(array[rows])
