"""Images and labels in a NumPy archive."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import ClassVar

import torch

from advbench.api import DataError, LabelledImages, ParameterError, param, to_labels, to_pixels
from advbench_datasets.npz_archive import NpzArchive
from advbench_datasets.own_images import Contents, OwnImages

__all__ = ["Npz"]

_PAIRS = (
    ("images", "labels"), ("x_test", "y_test"), ("X_test", "y_test"), ("test_images", "test_labels"), ("x", "y"),
    ("X", "y"), ("data", "labels"), ("data", "target"), ("data", "targets"), ("images", "targets"), ("images", "y"),
    ("x", "labels"), ("image", "label"), ("images", "target"), ("imgs", "labels"),
)  # fmt: skip
"""Usual keys of images and labels; the first pair that exists is used."""

_CLASS_NAMES_KEY = "class_names"


@dataclasses.dataclass(frozen=True)
class Npz(OwnImages):
    """Your own images as arrays: ``npz:path=FILE.npz``, as ``numpy.savez`` writes it.

    Images are uint8, or floating-point in [0, 1], of shape (n, height, width), (n, channels, height, width) or (n,
    height, width, channels), with 1 or 3 channels. Other dtypes are accepted if the white value is certain: booleans,
    integers with a maximum of 128 to 255, and uint16 with a maximum of at least 32768. Labels are integers from 0, of
    shape (n,) or (n, 1), or one-hot rows. An optional array class_names of strings names the classes.
    """

    name: ClassVar[str] = "npz"

    path: str = param(help="path of the file")
    images: str | None = param(None, help="key of the images; none: a usual one, such as images, x_test, x or data")
    labels: str | None = param(None, help="key of the labels; none: a usual one, such as labels, y_test, y or target")
    classes: int | None = param(
        None, min=2, help="number of classes; none: the length of class_names, or the largest label plus one"
    )

    def __post_init__(self) -> None:
        """Validates that both keys are given, or neither.

        Raises:
            ParameterError: Only one is given.
        """
        super().__post_init__()
        if (self.images is None) != (self.labels is None):
            raise ParameterError("images and labels: give both keys, or neither")

    def read(self) -> Contents:
        """Reads the arrays; nothing in the file is unpickled.

        Raises:
            DataError: The file is missing or damaged, or its arrays are not images and labels.
        """
        path = Path(self.path).expanduser()
        try:
            status = path.stat()
        except (OSError, ValueError) as error:
            raise DataError(f"{self.name}: path={self.path}: no such file") from error
        state = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        contents = _read(path, state, self.images, self.labels)
        largest = int(contents.images.labels.max())
        if self.classes is None:
            return contents
        if largest >= self.classes:
            raise DataError(f"{self.name}: {path} has the label {largest}; classes={self.classes} is too small")
        names = (
            contents.class_names and contents.class_names[: self.classes]
        )  # classes without a name are shown by number
        return dataclasses.replace(contents, num_classes=self.classes, class_names=names)


@functools.lru_cache(maxsize=2)
def _read(path: Path, state: tuple[int, ...], images_key: str | None, labels_key: str | None) -> Contents:
    """Reads the file; cached as long as it is unchanged."""
    del state
    with NpzArchive(path) as archive:
        images_key, labels_key = _keys(archive, images_key, labels_key)
        try:
            pixels = to_pixels(archive.read(images_key))
            labels, classes = to_labels(archive.read(labels_key), len(pixels))
        except ValueError as error:
            raise DataError(f"npz: {path} has {error}") from error
        names, notes = _class_names(archive, classes, (images_key, labels_key))
    data = LabelledImages(pixels, labels, torch.arange(len(labels)))
    return Contents(data, len(names or ()) or max(classes, 2), names, notes)


def _keys(archive: NpzArchive, images_key: str | None, labels_key: str | None) -> tuple[str, str]:
    names = archive.names
    if images_key is not None and labels_key is not None:
        for key in (images_key, labels_key):
            if key not in names:
                archive.fail(f"has no array {key!r}; it has {archive.format_names()}")
        return images_key, labels_key
    pairs = [pair for pair in _PAIRS if pair[0] in names and pair[1] in names]
    if not pairs:
        archive.fail(f"has the arrays {archive.format_names()}; say which: images=KEY,labels=KEY")
    return pairs[0]


def _class_names(
    archive: NpzArchive, classes: int, keys: tuple[str, str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Returns the class names, or a note why they are not shown; they are optional."""
    if _CLASS_NAMES_KEY not in archive.names or _CLASS_NAMES_KEY in keys:
        return None, ()
    try:
        names = archive.read(_CLASS_NAMES_KEY)
    except DataError as error:
        return None, (f"{error}; classes are shown by their numbers",)
    if names.dtype.kind not in "US" or names.ndim != 1 or len(names) < max(classes, 2):
        problem = (
            f"{_CLASS_NAMES_KEY} of {names.dtype}, shape {names.shape}; expected a text for each of {max(classes, 2)} "
            "classes"
        )
        return None, (f"npz: {archive.path} has {problem}: they are shown by their numbers",)
    texts = (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist())
    return tuple(texts), ()
