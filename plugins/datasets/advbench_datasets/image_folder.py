"""Images in a folder a class."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from advbench.api import DataError, LabelledImages, param
from advbench_datasets.files import Array
from advbench_datasets.own_images import OwnImages

__all__ = ["ImageFolder"]

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_MODES = {"rgb": "RGB", "grey": "L"}


@dataclasses.dataclass(frozen=True)
class ImageFolder(OwnImages):
    """Your own images, in a folder a class: ``image-folder:path=DIR``.

    The classes are the folders in DIR by name, and the samples the image files in them, by class and then by name;
    hidden files are left out. Images of 16 bits are read with 8.
    """

    name: ClassVar[str] = "image-folder"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)

    path: str = param(help="folder with a folder of images for each class")
    size: int | None = param(
        None,
        min=1,
        help="pixels: the shorter side is scaled to it (bicubic) and the middle square kept; none: as it is",
    )
    mode: str = param("rgb", choices=tuple(_MODES), help="how colours are read")

    def read(self) -> tuple[LabelledImages, int]:
        """Reads every image.

        Raises:
            DataError: There is no such folder, no class in it, no image in any, a file is no image, or sizes differ.
        """
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(f"{self.name}: path={self.path}: no such folder")
        classes = sorted(folder.name for folder in root.iterdir() if folder.is_dir() and folder.name[0] != ".")
        files = tuple((label, file) for label, name in enumerate(classes) for file in _images(root / name))
        if len(classes) < 2:
            raise DataError(f"{self.name}: {root} has {len(classes)} folders; expected one a class, at least two")
        if not files:
            raise DataError(f"{self.name}: the {len(classes)} folders in {root} hold no image files")
        states = tuple((file, (status := file.stat()).st_size, status.st_mtime_ns) for _, file in files)
        return _read(self.name, tuple(label for label, _ in files), states, self.size, _MODES[self.mode]), len(classes)


def _images(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    # Hidden files are no samples: thumbnails, copies of notebooks, what macOS leaves beside each file.
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


@functools.lru_cache(maxsize=2)
def _read(
    name: str, labels: tuple[int, ...], states: tuple[tuple[Path, int, int], ...], size: int | None, mode: str
) -> LabelledImages:
    """The images of these files, as long as they are what they were."""
    arrays: list[Array] = []
    for file, _, _ in states:
        pixels = _pixels(name, file, size, mode)
        if arrays and pixels.shape != arrays[0].shape:
            raise DataError(
                f"{name}: {file} has {pixels.shape[2]} x {pixels.shape[1]} pixels, the files before it "
                f"{arrays[0].shape[2]} x {arrays[0].shape[1]}; give size=N to bring all to one size"
            )
        arrays.append(pixels)
    return LabelledImages(torch.from_numpy(np.stack(arrays)), torch.tensor(labels), torch.arange(len(labels)))


def _pixels(name: str, file: Path, size: int | None, mode: str) -> Array:
    """One image, shape (channels, height, width)."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = _of_eight_bits(name, file, opened).convert(mode)
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{name}: {file} cannot be read as an image ({error}); mend or remove it") from error
    if size is not None:
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, dtype=np.uint8)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _of_eight_bits(name: str, file: Path, image: Any) -> Any:
    """An image of 16 bits with 8, which Pillow itself would cut off at 255.

    Raises:
        DataError: The file does not tell which value is white.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(f"{name}: {file} has pixels of 32 bits, of which white may be any; save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    sixteen = np.asarray(image).astype(np.int64)
    return Image.fromarray(((sixteen + 128) // 257).astype(np.uint8))
