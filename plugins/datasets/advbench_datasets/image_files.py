"""Reads image files."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advbench.api import DataError, ParameterError, to_pixels
from advbench_datasets.files import Array

__all__ = ["INTERPOLATIONS", "MODES", "SUFFIXES", "ReadOptions", "bright_enough", "parse_size"]

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""Suffixes of files that are read, in lower case."""

MODES = {"rgb": "RGB", "grey": "L"}
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")

_SIZE = re.compile(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", re.ASCII)


def parse_size(name: str, text: str | None) -> tuple[int, ...] | None:
    """Parses ``224`` or ``HEIGHTxWIDTH`` to one or two integers.

    Raises:
        ParameterError: The text is neither.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip().lower())
    if match is None:
        raise ParameterError(f"{name}={text}: must be pixels such as 224, or HEIGHTxWIDTH such as 224x320")
    return tuple(int(side) for side in match.groups() if side is not None)


@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Options for reading image files.

    Attributes:
        name: Name of the dataset, for messages.
        mode: Pillow's colour mode.
        interpolation: Pillow's resampling filter, in lower case. Pillow antialiases with all but ``nearest``.
        square: Length to which the shorter side is resized before the centre square is cropped; None for no such
            resizing.
        resize: The length of the shorter side, or (height, width), to resize to; None for no resizing.
        crop: The side of a square, or (height, width), to crop from the centre; None for no cropping.
    """

    name: str
    mode: str
    interpolation: str
    square: int | None = None
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None

    def pixels(self, file: Path) -> Array:
        """Reads one image: uint8, shape (channels, height, width).

        Reads the first of several frames and applies the orientation in EXIF data.

        Raises:
            DataError: The file cannot be read, is too large, has no defined white value, or is smaller than the crop.
        """
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unusual metadata, and of photographs of over 89 million pixels
                with Image.open(file) as opened:
                    image = self._orient_and_convert(file, opened)
        except Image.DecompressionBombError as error:
            raise DataError(f"{self.name}: {file} is too large to be an image for a benchmark ({error})") from error
        except DataError:
            raise
        except Exception as error:  # a damaged file can raise any exception
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.name}: {file} cannot be read as an image ({reason}); fix or remove it") from error
        return self._array(file, image)

    def pixels_of(self, image: Any, origin: object) -> Array:
        """Converts one of Pillow's images as :meth:`pixels` does; ``origin`` says in messages which one it is.

        Raises:
            DataError: As for :meth:`pixels`.
        """
        return self._array(origin, self._orient_and_convert(origin, image))

    def _array(self, file: object, image: Any) -> Array:
        pixels = np.asarray(self._cropped(file, self._resized(image)), dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _orient_and_convert(self, file: object, opened: Any) -> Any:
        """Returns the first frame with 8 bits per channel, upright, over white, in the requested mode."""
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(_to_8_bit(self.name, file, opened))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return image.convert(self.mode)

    def _resized(self, image: Any) -> Any:
        from PIL import Image

        method = Image.Resampling[self.interpolation.upper()]
        if self.square is not None:
            scale = self.square / min(image.size)
            return image.resize(tuple(max(self.square, round(side * scale)) for side in image.size), method)
        if self.resize is None:
            return image
        if len(self.resize) == 2:
            height, width = self.resize
            return image.resize((width, height), method)
        (side,) = self.resize
        shorter = min(image.size)
        return image.resize(
            tuple(side if length == shorter else int(side * length / shorter) for length in image.size), method
        )

    def _cropped(self, file: object, image: Any) -> Any:
        if self.square is None and self.crop is None:
            return image
        crop = self.crop or (self.square,)
        height, width = crop[0], crop[-1]
        if height > image.height or width > image.width:
            hint = "after resize" if self.resize else "as it is; give resize=N"
            raise DataError(
                f"{self.name}: crop={'x'.join(map(str, crop))} is larger than {file}, which has {image.height}x"
                f"{image.width} pixels (height x width) {hint}"
            )
        if self.square is not None:
            left, top = (image.width - width) // 2, (image.height - height) // 2
        else:  # equal to torchvision's CenterCrop
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def bright_enough(name: str, images: Array) -> torch.Tensor:
    """The decoded images of a dataset as a tensor that shares their memory.

    Args:
        name: Name of the dataset, for messages.
        images: uint8, shape (n, channels, height, width).

    Raises:
        DataError: All are so dark that 255 is hardly their white, such as masks of 0 and 1.
    """
    try:
        return to_pixels(images, channels_first=True)
    except ValueError as error:
        raise DataError(f"{name} has {error}") from error


def _to_8_bit(name: str, file: object, image: Any) -> Any:
    """Converts an image of 16 bits to 8; Pillow itself would clip values at 255.

    Raises:
        DataError: The file does not define the white value.
    """
    # Pillow reads 16-bit PNG and PGM files with 32 bits; a PGM file names its white value.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise DataError(f"{name}: {file} has 32-bit pixels, whose white value is unknown; save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    converted = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    converted.getexif().update(image.getexif())
    return converted
