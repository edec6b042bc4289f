"""Images in one folder per class."""

from __future__ import annotations

import dataclasses
import functools
import stat
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import torch

from advbench.api import DataError, LabelledImages, ParameterError, param
from advbench_datasets.class_folders import find_classes
from advbench_datasets.files import Array
from advbench_datasets.image_files import INTERPOLATIONS, MODES, ReadOptions, bright_enough, parse_size
from advbench_datasets.own_images import Contents, OwnImages

__all__ = ["ImageFolder"]


@dataclasses.dataclass(frozen=True)
class ImageFolder(OwnImages):
    """Your own images, with one folder per class: ``image-folder:path=DIR``.

    The classes are the subfolders of DIR, sorted by name. The samples are the image files in them and in their
    subfolders, sorted by class, then by name. Hidden files and other files are skipped and reported. A folder without
    images still counts as a class. Images are rotated by their EXIF orientation, transparent pixels are blended over
    white, animations are represented by their first frame, and 16-bit images are converted to 8 bits.
    """

    name: ClassVar[str] = "image-folder"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)

    path: str = param(help="folder with one folder of images per class")
    size: int | None = param(
        None,
        min=1,
        help="pixels: resize the shorter side to it and crop the centre square; none: unchanged",
    )
    mode: str = param("rgb", choices=tuple(MODES), help="colour mode")
    resize: str | None = param(None, help="pixels of the shorter side, or HEIGHTxWIDTH, to resize to; none: unchanged")
    crop: str | None = param(None, help="side of the square, or HEIGHTxWIDTH, to crop from the centre; none: no crop")
    interpolation: str = param(
        "bicubic", choices=INTERPOLATIONS, help="filter for resizing, with antialiasing except for nearest"
    )
    classes: str | None = param(
        None,
        help="text file with one class folder per line, in the order of class ids from 0; or the number of "
        "classes, if folders are named by class ids; none: folders sorted by name",
    )

    def __post_init__(self) -> None:
        """Validates that the sizes are well-formed and consistent.

        Raises:
            ParameterError: They are not.
        """
        super().__post_init__()
        sizes = parse_size("resize", self.resize), parse_size("crop", self.crop)
        if self.size is not None and any(sizes):
            raise ParameterError("size: scales and crops in one; give size alone, or resize and crop")
        if self.classes is not None and self.classes.isdigit() and int(self.classes) < 2:
            raise ParameterError(f"classes={self.classes}: must be at least 2, or a text file")
        resized, cropped = sizes
        if resized and cropped:
            # A single number of resize fixes the shorter side only, so one side of the crop may be larger.
            pairs = zip(cropped * 2, resized, strict=False) if len(resized) == 2 else [(min(cropped), resized[0])]
            if any(crop_side > resize_side for crop_side, resize_side in pairs):
                raise ParameterError(f"crop={self.crop}: is larger than resize={self.resize}")

    def read(self) -> Contents:
        """Reads every image.

        Raises:
            DataError: The folder is missing, has no classes or images, a file is not an image, or sizes differ.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(f"{self.name}: path={self.path}: no such folder")
        folders = find_classes(self.name, root, self.classes)
        file_states = tuple(_file_state(self.name, file) for _, file in folders.files)
        options = ReadOptions(
            name=self.name,
            mode=MODES[self.mode],
            interpolation=self.interpolation,
            square=self.size,
            resize=parse_size("resize", self.resize),
            crop=parse_size("crop", self.crop),
        )
        images = _read(tuple(label for label, _ in folders.files), file_states, options)
        return Contents(images, folders.num_classes, folders.names, folders.notes)


FileState: TypeAlias = tuple[Path, tuple[int, ...]]
"""A file and the properties by which a change is detected."""


def _file_state(name: str, file: Path) -> FileState:
    """Returns the properties by which a changed file is detected."""
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{name}: {file} cannot be read ({error.strerror}); fix or remove it") from error
    if not stat.S_ISREG(status.st_mode):  # such as a pipe, which would block
        raise DataError(f"{name}: {file} is no regular file; remove it")
    return file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@functools.lru_cache(maxsize=2)
def _read(labels: tuple[int, ...], file_states: tuple[FileState, ...], options: ReadOptions) -> LabelledImages:
    """Reads the images of these files; cached as long as the files are unchanged."""
    images: Array = np.empty(0, np.uint8)
    for index, (file, _) in enumerate(file_states):
        pixels = options.pixels(file)
        if index == 0:
            images = np.empty((len(file_states), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{options.name}: {file} has {pixels.shape[2]} x {pixels.shape[1]} pixels, the files before it "
                f"{images.shape[3]} x {images.shape[2]}; give size=N, or resize= and crop=, to bring all to one size"
            )
        images[index] = pixels
    return LabelledImages(bright_enough(options.name, images), torch.tensor(labels), torch.arange(len(labels)))
