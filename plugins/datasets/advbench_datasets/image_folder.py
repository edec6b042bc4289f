"""Images in a folder a class."""

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
from advbench_datasets.image_files import INTERPOLATIONS, MODES, Reading, parse_sides
from advbench_datasets.own_images import Contents, OwnImages

__all__ = ["ImageFolder"]


@dataclasses.dataclass(frozen=True)
class ImageFolder(OwnImages):
    """Your own images, in a folder a class: ``image-folder:path=DIR``.

    The classes are the folders in DIR by name, and the samples the image files in them and in folders within, by class
    and then by name; hidden files and what is no image are left out and named. A folder without images keeps its class.
    Images are turned as their EXIF orientation says; transparent pixels are laid over white; of an animation the first
    frame is read; images of 16 bits are read with 8.
    """

    name: ClassVar[str] = "image-folder"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)

    path: str = param(help="folder with a folder of images for each class")
    size: int | None = param(
        None,
        min=1,
        help="pixels: the shorter side is scaled to it and the middle square kept; none: as it is",
    )
    mode: str = param("rgb", choices=tuple(MODES), help="how colours are read")
    resize: str | None = param(
        None, help="pixels of the shorter side, or HEIGHTxWIDTH, that images are scaled to; none: as they are"
    )
    crop: str | None = param(None, help="side of the square, or HEIGHTxWIDTH, kept of the middle; none: all")
    interpolation: str = param(
        "bicubic", choices=INTERPOLATIONS, help="how images are scaled, antialiased but for nearest"
    )
    classes: str | None = param(
        None,
        help="text file with a class folder a line, whose number from 0 is the class id; or a number of classes, where "
        "the folders are named by their ids; none: the folders by name",
    )

    def __post_init__(self) -> None:
        """Checks that the sizes can be read and go together."""
        super().__post_init__()
        sides = parse_sides("resize", self.resize), parse_sides("crop", self.crop)
        if self.size is not None and any(sides):
            raise ParameterError("size: scales and crops in one; give size alone, or resize and crop")
        if self.classes is not None and self.classes.isdigit() and int(self.classes) < 2:
            raise ParameterError(f"classes={self.classes}: must be at least 2, or a text file")
        resized, cropped = sides
        if resized and cropped:
            # One number of resize bounds the shorter side alone, so that one of two sides of a crop may be larger.
            apart = zip(cropped * 2, resized, strict=False) if len(resized) == 2 else [(min(cropped), resized[0])]
            if any(kept > there for kept, there in apart):
                raise ParameterError(f"crop={self.crop}: is larger than resize={self.resize}")

    def read(self) -> Contents:
        """Reads every image.

        Raises:
            DataError: There is no such folder, no class in it, no image in any, a file is no image, or sizes differ.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(f"{self.name}: path={self.path}: no such folder")
        found = find_classes(self.name, root, self.classes)
        states = tuple(_state(self.name, file) for _, file in found.files)
        reading = Reading(
            name=self.name,
            mode=MODES[self.mode],
            interpolation=self.interpolation,
            square=self.size,
            resize=parse_sides("resize", self.resize),
            crop=parse_sides("crop", self.crop),
        )
        images = _read(tuple(label for label, _ in found.files), states, reading)
        return Contents(images, found.num_classes, found.names, found.notes)


State: TypeAlias = tuple[Path, tuple[int, ...]]
"""A file and what a changed one is told by."""


def _state(name: str, file: Path) -> State:
    """By what a changed file is told from what it was."""
    try:
        status = file.stat()
    except OSError as error:
        raise DataError(f"{name}: {file} cannot be read ({error.strerror}); mend or remove it") from error
    if not stat.S_ISREG(status.st_mode):  # such as a pipe, which would never end
        raise DataError(f"{name}: {file} is no regular file; remove it")
    return file, (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


@functools.lru_cache(maxsize=2)
def _read(labels: tuple[int, ...], states: tuple[State, ...], reading: Reading) -> LabelledImages:
    """The images of these files, as long as they are what they were."""
    images: Array = np.empty(0, np.uint8)
    for place, (file, _) in enumerate(states):
        pixels = reading.pixels(file)
        if place == 0:
            images = np.empty((len(states), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{reading.name}: {file} has {pixels.shape[2]} x {pixels.shape[1]} pixels, the files before it "
                f"{images.shape[3]} x {images.shape[2]}; give size=N, or resize= and crop=, to bring all to one size"
            )
        images[place] = pixels
    return LabelledImages(torch.from_numpy(images), torch.tensor(labels), torch.arange(len(labels)))
