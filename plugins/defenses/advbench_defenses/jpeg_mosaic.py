"""JPEG compression of many images as one picture, with the same result as one by one.

JPEG codes blocks of 8 × 8 values, and only the code of their means, which is lossless, looks at the block before. So
images that are padded to whole blocks, as the codec itself does, may be stacked and coded together. In colour the
codec halves the two channels of chroma and blends their pixels across blocks when it doubles them again (ITU-T T.81,
section A.1; T.871 for the colours); that is done here image by image, in the integer arithmetic of libjpeg, and the
three channels are coded as grey pictures.
"""

from __future__ import annotations

import functools
import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["one_by_one", "recompressed"]

Bytes: TypeAlias = "npt.NDArray[np.uint8]"
Integers: TypeAlias = "npt.NDArray[np.int32]"

_BLOCK = 8
_HIGHEST = 65_000
"""Rows of one picture; JPEG can count to 65,535."""


def recompressed(images: Bytes, quality: int) -> Bytes:
    """Images as they come out of a JPEG file that Pillow writes and reads; at 4:2:0 where they are in colour.

    Args:
        images: Shape (batch, channels, height, width), with one channel or three.
        quality: 1 to 100.

    Returns:
        Of the same shape, equal to the bit to Pillow's one by one.
    """
    if not len(images):
        return np.empty_like(images)
    if images.shape[1] == 1:
        grey: Bytes = _through_codec(images[:, 0], _tables(quality)[0])[:, None]
        return grey
    return _recompressed_colours(images, quality) if _is_libjpeg_turbo() else one_by_one(images, quality)


def one_by_one(images: Bytes, quality: int) -> Bytes:
    """What :func:`recompressed` returns, by a file an image."""
    from PIL import Image

    decoded = np.empty_like(images)
    for image, out in zip(images, decoded, strict=True):
        file = io.BytesIO()
        # Pillow tells the mode from the shape: (height, width) is L, (height, width, 3) is RGB.
        picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(picture)).save(file, "JPEG", quality=quality)
        with Image.open(file) as read:
            out[:] = np.asarray(read).reshape(*image.shape[1:], -1).transpose(2, 0, 1)
    return decoded


@functools.cache
def _is_libjpeg_turbo() -> bool:
    """Whether Pillow's codec blends chroma as here; a Pillow that is built with another library may not."""
    probe = np.random.default_rng(0).integers(0, 256, (2, 3, 19, 21), dtype=np.uint8)
    return np.array_equal(_recompressed_colours(probe, 90), one_by_one(probe, 90))


def _recompressed_colours(images: Bytes, quality: int) -> Bytes:
    luma_table, chroma_table = _tables(quality)
    channels = _to_chroma(images)
    luma = _through_codec(channels[0], luma_table)
    height, width = images.shape[2:]
    columns = (width + 1) // 2
    blue, red = (_through_codec(_halved(channel), chroma_table)[:, :, :columns] for channel in channels[1:])
    return _to_colours(luma, _doubled(blue, height, width), _doubled(red, height, width))


@functools.lru_cache(maxsize=128)
def _tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the coefficients of luma and of chroma are divided by, as Pillow writes it at this quality."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "JPEG", quality=quality)
    with Image.open(file) as read:
        tables = read.quantization
    return tuple(tables[0]), tuple(tables[1])


def _through_codec(planes: Bytes, table: tuple[int, ...]) -> Bytes:
    """Planes of shape (batch, height, width), each coded and decoded as a grey picture of its own would be."""
    from PIL import Image

    batch, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -height % _BLOCK), (0, -width % _BLOCK)), mode="edge")
    decoded = np.empty_like(padded)
    most = max(1, _HIGHEST // padded.shape[1])
    for start in range(0, batch, most):
        part = padded[start : start + most]
        file = io.BytesIO()
        Image.fromarray(part.reshape(-1, part.shape[2])).save(file, "JPEG", qtables=[list(table)])
        with Image.open(file) as read:
            decoded[start : start + most] = np.asarray(read).reshape(part.shape)
    return decoded[:, :height, :width]


def _to_chroma(images: Bytes) -> list[Bytes]:
    """Luma and the two chroma channels, in steps of 1/65536 (T.871, section 7)."""
    red, green, blue = (images[:, i].astype(np.int32) for i in range(3))
    half = 1 << 15
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    middle = (128 << 16) + half - 1
    towards_blue = (32768 * blue - 11059 * red - 21709 * green + middle) >> 16
    towards_red = (32768 * red - 27439 * green - 5329 * blue + middle) >> 16
    return [channel.astype(np.uint8) for channel in (luma, towards_blue, towards_red)]


def _halved(planes: Bytes) -> Bytes:
    """The mean of each four pixels; halves are rounded down and up in turn, from column to column.

    The codec completes its blocks to the right before it halves, and downwards after.
    """
    _, height, width = planes.shape
    whole = np.pad(planes, ((0, 0), (0, height % 2), (0, -width % (2 * _BLOCK))), mode="edge").astype(np.uint16)
    rows = whole[:, ::2] + whole[:, 1::2]
    sums = rows[:, :, ::2] + rows[:, :, 1::2]
    sums += 1 + np.arange(sums.shape[2], dtype=np.uint16) % 2
    return (sums >> 2).astype(np.uint8)


def _doubled(planes: Bytes, height: int, width: int) -> Integers:
    """Each pixel four times, blended 9 : 3 : 3 : 1 with its three nearest neighbours; two columns or fewer are not."""
    batch, rows, columns = planes.shape
    values = planes.astype(np.int16)
    if columns <= 2:
        return values.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width].astype(np.int32)
    bordered = np.pad(values, ((0, 0), (1, 1), (0, 0)), mode="edge")
    tall = np.empty((batch, rows, 2, columns), np.int16)
    near = 3 * values
    np.add(near, bordered[:, :-2], out=tall[:, :, 0])
    np.add(near, bordered[:, 2:], out=tall[:, :, 1])
    tall = np.pad(tall.reshape(batch, 2 * rows, columns), ((0, 0), (0, 0), (1, 1)), mode="edge")
    doubled = np.empty((batch, 2 * rows, columns, 2), np.int16)
    near = 3 * tall[:, :, 1:-1]
    np.right_shift(near + tall[:, :, :-2] + 8, 4, out=doubled[..., 0])
    np.right_shift(near + tall[:, :, 2:] + 7, 4, out=doubled[..., 1])
    return doubled.reshape(batch, 2 * rows, 2 * columns)[:, :height, :width].astype(np.int32)


def _to_colours(luma: Bytes, towards_blue: Integers, towards_red: Integers) -> Bytes:
    """Red, green and blue, in steps of 1/65536 (T.871, section 7)."""
    half = 1 << 15
    towards_blue -= 128
    towards_red -= 128
    colours = np.empty((len(luma), 3, *luma.shape[1:]), np.int32)
    np.right_shift(91881 * towards_red + half, 16, out=colours[:, 0])
    np.right_shift(half - 46802 * towards_red - 22554 * towards_blue, 16, out=colours[:, 1])
    np.right_shift(116130 * towards_blue + half, 16, out=colours[:, 2])
    colours += luma[:, None]
    return colours.clip(0, 255, out=colours).astype(np.uint8)
