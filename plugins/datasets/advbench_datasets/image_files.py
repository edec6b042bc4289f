"""Image files as pixels."""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from advbench.api import DataError, ParameterError
from advbench_datasets.files import Array

__all__ = ["INTERPOLATIONS", "MODES", "SUFFIXES", "Reading", "parse_sides"]

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""The endings of files that are read, in any case."""

MODES = {"rgb": "RGB", "grey": "L"}
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")

_SIDES = re.compile(r"([1-9][0-9]{0,5})(?:x([1-9][0-9]{0,5}))?", re.ASCII)


def parse_sides(name: str, text: str | None) -> tuple[int, ...] | None:
    """``224`` or ``HEIGHTxWIDTH`` as one or two whole numbers.

    Raises:
        ParameterError: The text is neither.
    """
    if text is None:
        return None
    found = _SIDES.fullmatch(text.strip().lower())
    if found is None:
        raise ParameterError(f"{name}={text}: must be pixels such as 224, or HEIGHTxWIDTH such as 224x320")
    return tuple(int(side) for side in found.groups() if side is not None)


@dataclasses.dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        name: What messages begin with.
        mode: Pillow's name of the colours.
        interpolation: Of resizing, Pillow's name in small letters. Pillow filters out what a smaller image cannot show
            (antialiasing), but for ``nearest``.
        square: The shorter side is brought to it, and the middle square kept; None: not so.
        resize: The shorter side, or (height, width), that images are brought to; None: not so.
        crop: Side of the square, or (height, width), that is kept of the middle; None: all.
    """

    name: str
    mode: str
    interpolation: str
    square: int | None = None
    resize: tuple[int, ...] | None = None
    crop: tuple[int, ...] | None = None

    def pixels(self, file: Path) -> Array:
        """One image, uint8, shape (channels, height, width).

        Of several frames the first is read, and an orientation that the file notes is applied.

        Raises:
            DataError: It cannot be read, is too large, does not say which value is white, or is smaller than the crop.
        """
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of odd metadata, and of photographs of over 89 million pixels
                with Image.open(file) as opened:
                    image = self._upright(file, opened)
        except Image.DecompressionBombError as error:
            raise DataError(f"{self.name}: {file} is too large to be an image for a benchmark ({error})") from error
        except DataError:
            raise
        except Exception as error:  # a damaged file raises whatever the decoder that it derails raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"{self.name}: {file} cannot be read as an image ({reason}); mend or remove it") from error
        pixels = np.asarray(self._cropped(file, self._resized(image)), dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _upright(self, file: Path, opened: Any) -> Any:
        """The first frame with 8 bits a channel, as it is to be looked at, in the wanted colours."""
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(_of_eight_bits(self.name, file, opened))
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
        return image.resize(tuple(side if one == shorter else int(side * one / shorter) for one in image.size), method)

    def _cropped(self, file: Path, image: Any) -> Any:
        if self.square is None and self.crop is None:
            return image
        kept = self.crop or (self.square,)
        height, width = kept[0], kept[-1]
        if height > image.height or width > image.width:
            how = "after resize" if self.resize else "as it is; give resize=N"
            raise DataError(
                f"{self.name}: crop={'x'.join(map(str, kept))} is larger than {file}, which has {image.height}x"
                f"{image.width} pixels (height x width) {how}"
            )
        if self.square is not None:
            left, top = (image.width - width) // 2, (image.height - height) // 2
        else:  # to the pixel what torchvision's CenterCrop keeps
            left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


def _of_eight_bits(name: str, file: Path, image: Any) -> Any:
    """An image of 16 bits with 8, which Pillow itself would cut off at 255.

    Raises:
        DataError: The file does not say which value is white.
    """
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(f"{name}: {file} has pixels of 32 bits, of which white may be any; save 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    sixteen = np.asarray(image).astype(np.int64)
    eight = Image.fromarray(((sixteen + 128) // 257).astype(np.uint8))
    eight.getexif().update(image.getexif())
    return eight
