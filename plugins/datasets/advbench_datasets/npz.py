"""Images and labels in a NumPy archive."""

from __future__ import annotations

import dataclasses
import functools
import zipfile
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import DataError, LabelledImages, ParameterError, param
from advbench_datasets.own_images import OwnImages

__all__ = ["Npz"]

_PAIRS = (("images", "labels"), ("x_test", "y_test"), ("x", "y"), ("X", "y"), ("data", "labels"))
"""Under which keys images and labels usually are; the first pair that is there counts."""

_CHANNELS = (1, 3)


@dataclasses.dataclass(frozen=True)
class Npz(OwnImages):
    """Your own images as arrays: ``npz:path=FILE.npz``, as ``numpy.savez`` writes it.

    Images are uint8, or floating-point in [0, 1], of shape (n, height, width), (n, channels, height, width) or
    (n, height, width, channels) with 1 or 3 channels; labels are whole numbers from 0, of shape (n,).
    """

    name: ClassVar[str] = "npz"

    path: str = param(help="the file")
    images: str | None = param(None, help="key of the images; none: images, x_test, x, X or data")
    labels: str | None = param(None, help="key of the labels; none: labels, y_test or y")
    classes: int | None = param(None, min=2, help="how many classes; none: one more than the largest label")

    def __post_init__(self) -> None:
        """Checks that both keys are given, or neither."""
        super().__post_init__()
        if (self.images is None) != (self.labels is None):
            raise ParameterError("images and labels: give both keys, or neither")

    def read(self) -> tuple[LabelledImages, int]:
        """Reads the arrays; nothing in the file is unpickled.

        Raises:
            DataError: There is no such file, it is no such archive, or its arrays are not images and labels.
        """
        path = Path(self.path).expanduser()
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{self.name}: path={self.path}: no such file") from error
        data = _read(path, status.st_size, status.st_mtime_ns, self.images, self.labels)
        largest = int(data.labels.max())
        if self.classes is not None and largest >= self.classes:
            raise DataError(f"{self.name}: {path} has the label {largest}; with classes={self.classes} they end before")
        return data, self.classes or max(largest + 1, 2)


@functools.lru_cache(maxsize=2)
def _read(path: Path, size: int, changed: int, images_key: str | None, labels_key: str | None) -> LabelledImages:
    """What is in the file, as long as it is what it was."""
    del size, changed
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                _refuse(path, "is a single array; save images and labels with numpy.savez(FILE, images=…, labels=…)")
            keys = _keys(path, archive.files, images_key, labels_key)
            images, labels = (archive[key] for key in keys)
    except (OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"npz: {path} is damaged or no .npz file ({error})") from error
    except ValueError as error:
        if "pickle" not in str(error).lower() or not zipfile.is_zipfile(path):
            raise DataError(f"npz: {path} is damaged or no .npz file ({error})") from error
        raise DataError(
            f"npz: {path} holds pickled objects, which could run code, so that nothing of them was read; save arrays "
            "of numbers"
        ) from error
    pixels, classes = _pixels(path, images), _labels(path, labels)
    if len(pixels) != len(classes) or not len(classes):
        _refuse(path, f"has {len(pixels)} images and {len(classes)} labels")
    return LabelledImages(pixels, classes, torch.arange(len(classes)))


def _keys(path: Path, there: list[str], images_key: str | None, labels_key: str | None) -> tuple[str, str]:
    if images_key is not None and labels_key is not None:
        for key in (images_key, labels_key):
            if key not in there:
                _refuse(path, f"has no array {key!r}; it has {', '.join(there)}")
        return images_key, labels_key
    found = [pair for pair in _PAIRS if pair[0] in there and pair[1] in there]
    if not found:
        _refuse(path, f"has the arrays {', '.join(there)}; say which: images=KEY,labels=KEY")
    return found[0]


def _pixels(path: Path, images: npt.NDArray[Any]) -> torch.Tensor:
    """Images of a usual form as uint8 or float32, shape (n, channels, height, width)."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim != 4 or not ({images.shape[1], images.shape[3]} & set(_CHANNELS)):
        _refuse(path, f"has images of shape {images.shape}; expected (n, height, width) or one with 1 or 3 channels")
    elif images.shape[1] not in _CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    elif images.shape[3] in _CHANNELS:
        _refuse(
            path, f"has images of shape {images.shape}, of which either axis may be the channels; save another form"
        )
    if images.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(images))
    if not np.issubdtype(images.dtype, np.floating):
        _refuse(path, f"has images of {images.dtype}; expected uint8, or floating-point in [0, 1]")
    if not ((images >= 0) & (images <= 1)).all():  # NaN is neither
        low, high = float(images.min()), float(images.max())
        _refuse(path, f"has pixels from {low:g} to {high:g}; expected [0, 1]: divide by 255, or save uint8")
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))


def _labels(path: Path, labels: npt.NDArray[Any]) -> torch.Tensor:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if not whole or (len(labels) and labels.min() < 0):
        _refuse(path, f"has labels of {labels.dtype}, shape {labels.shape}; expected whole numbers from 0, shape (n,)")
    return torch.from_numpy(labels.astype(np.int64))


def _refuse(path: Path, what: str) -> NoReturn:
    raise DataError(f"npz: {path} {what}")
