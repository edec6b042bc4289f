"""JPEG compression of many images as one picture, equal to the bit to compressing them one by one.

JPEG codes blocks of 8 × 8 values. Only the lossless coding of their means depends on the previous block, so images that
are padded to whole blocks, as the codec does itself, can be stacked and coded together. For RGB images, the codec also
subsamples the two chroma channels, and blends pixels across blocks when it upsamples them (ITU-T T.81, section A.1;
T.871 for the colours). This is done here for each image, in libjpeg's integer arithmetic, and the three channels are
coded as greyscale pictures.
"""

from __future__ import annotations

import functools
import io
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from advbench_defenses.block_threads import map_in_threads

__all__ = ["recompress", "recompress_individually"]

Bytes: TypeAlias = "npt.NDArray[np.uint8]"
Integers: TypeAlias = "npt.NDArray[np.int32]"

_BLOCK = 8
_MAX_HEIGHT = 65_000
"""Maximum rows of one picture; the JPEG format allows 65,535."""

_MAX_PIXELS = 100 * 100
"""Larger images are coded one by one: for them, the codec's own colours are faster than those of this module."""


def recompress(images: Bytes, quality: int) -> Bytes:
    """Returns images as decoded from JPEG files that Pillow writes; RGB images are subsampled at 4:2:0.

    Args:
        images: Shape (batch, channels, height, width), with one or three channels.
        quality: 1 to 100.

    Returns:
        Images of the same shape, equal to the bit to Pillow's.
    """
    if not len(images):
        return np.empty_like(images)
    if images.shape[2] * images.shape[3] > _MAX_PIXELS:
        return recompress_individually(images, quality)
    if images.shape[1] == 1:
        grey: Bytes = _code_grey_planes(images[:, 0], _tables(quality)[0])[:, None]
        return grey
    return _recompress_rgb(images, quality) if _is_libjpeg_turbo() else recompress_individually(images, quality)


def recompress_individually(images: Bytes, quality: int) -> Bytes:
    """Returns the same as :func:`recompress`, with one file per image, in as many threads as torch uses."""
    from PIL import Image

    decoded = np.empty_like(images)

    def code(number: int) -> None:
        channels = [Image.fromarray(channel) for channel in images[number]]
        file = io.BytesIO()
        (channels[0] if len(channels) == 1 else Image.merge("RGB", channels)).save(file, "JPEG", quality=quality)
        with Image.open(file) as coded:
            decoded[number] = np.asarray(coded).reshape(*images.shape[2:], -1).transpose(2, 0, 1)

    map_in_threads(code, range(len(images)))  # Pillow codes without the interpreter's lock
    return decoded


@functools.cache
def _is_libjpeg_turbo() -> bool:
    """Returns whether Pillow's codec upsamples chroma as this module does; builds with other libraries may not."""
    probe = np.random.default_rng(0).integers(0, 256, (2, 3, 19, 21), dtype=np.uint8)
    return np.array_equal(_recompress_rgb(probe, 90), recompress_individually(probe, 90))


def _recompress_rgb(images: Bytes, quality: int) -> Bytes:
    luma_table, chroma_table = _tables(quality)
    channels = _rgb_to_ycbcr(images)
    luma = _code_grey_planes(channels[0], luma_table)
    height, width = images.shape[2:]
    columns = (width + 1) // 2
    blue, red = (_code_grey_planes(_subsample(channel), chroma_table)[:, :, :columns] for channel in channels[1:])
    return _ycbcr_to_rgb(luma, _upsample(blue, height, width), _upsample(red, height, width))


@functools.lru_cache(maxsize=128)
def _tables(quality: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the quantisation tables of luma and chroma that Pillow uses at this quality."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "JPEG", quality=quality)
    with Image.open(file) as coded:
        tables = coded.quantization
    return tuple(tables[0]), tuple(tables[1])


def _code_grey_planes(planes: Bytes, table: tuple[int, ...]) -> Bytes:
    """Codes and decodes planes of shape (batch, height, width), each as if it were a greyscale picture of its own."""
    from PIL import Image

    batch, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, -height % _BLOCK), (0, -width % _BLOCK)), mode="edge")
    decoded = np.empty_like(padded)
    batch_size = max(1, _MAX_HEIGHT // padded.shape[1])
    for start in range(0, batch, batch_size):
        stack = padded[start : start + batch_size]
        file = io.BytesIO()
        Image.fromarray(stack.reshape(-1, stack.shape[2])).save(file, "JPEG", qtables=[list(table)])
        with Image.open(file) as coded:
            decoded[start : start + batch_size] = np.asarray(coded).reshape(stack.shape)
    return decoded[:, :height, :width]


def _rgb_to_ycbcr(images: Bytes) -> list[Bytes]:
    """Converts RGB to luma and two chroma channels, in steps of 1/65536 (T.871, section 7)."""
    red, green, blue = (images[:, i].astype(np.int32) for i in range(3))
    half = 1 << 15
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    offset = (128 << 16) + half - 1
    cb = (32768 * blue - 11059 * red - 21709 * green + offset) >> 16
    cr = (32768 * red - 27439 * green - 5329 * blue + offset) >> 16
    return [channel.astype(np.uint8) for channel in (luma, cb, cr)]


def _subsample(planes: Bytes) -> Bytes:
    """Averages 2×2 pixels; halves are rounded down and up in alternating columns.

    The codec pads its blocks to the right before it subsamples, and downwards afterwards.
    """
    _, height, width = planes.shape
    padded = np.pad(planes, ((0, 0), (0, height % 2), (0, -width % (2 * _BLOCK))), mode="edge").astype(np.uint16)
    rows = padded[:, ::2] + padded[:, 1::2]
    sums = rows[:, :, ::2] + rows[:, :, 1::2]
    sums += 1 + np.arange(sums.shape[2], dtype=np.uint16) % 2
    return (sums >> 2).astype(np.uint8)


def _upsample(planes: Bytes, height: int, width: int) -> Integers:
    """Doubles height and width.

    Pixels are blended 9 : 3 : 3 : 1 with their nearest neighbours; planes of up to two columns are only repeated.
    """
    batch, rows, columns = planes.shape
    values = planes.astype(np.int16)
    if columns <= 2:
        return values.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width].astype(np.int32)
    padded = np.pad(values, ((0, 0), (1, 1), (0, 0)), mode="edge")
    double_height = np.empty((batch, rows, 2, columns), np.int16)
    weighted = 3 * values
    np.add(weighted, padded[:, :-2], out=double_height[:, :, 0])
    np.add(weighted, padded[:, 2:], out=double_height[:, :, 1])
    double_height = np.pad(double_height.reshape(batch, 2 * rows, columns), ((0, 0), (0, 0), (1, 1)), mode="edge")
    upsampled = np.empty((batch, 2 * rows, columns, 2), np.int16)
    weighted = 3 * double_height[:, :, 1:-1]
    np.right_shift(weighted + double_height[:, :, :-2] + 8, 4, out=upsampled[..., 0])
    np.right_shift(weighted + double_height[:, :, 2:] + 7, 4, out=upsampled[..., 1])
    return upsampled.reshape(batch, 2 * rows, 2 * columns)[:, :height, :width].astype(np.int32)


def _ycbcr_to_rgb(luma: Bytes, cb: Integers, cr: Integers) -> Bytes:
    """Converts luma and chroma to RGB, in steps of 1/65536 (T.871, section 7)."""
    half = 1 << 15
    cb -= 128
    cr -= 128
    colours = np.empty((len(luma), 3, *luma.shape[1:]), np.int32)
    np.right_shift(91881 * cr + half, 16, out=colours[:, 0])
    np.right_shift(half - 46802 * cr - 22554 * cb, 16, out=colours[:, 1])
    np.right_shift(116130 * cb + half, 16, out=colours[:, 2])
    colours += luma[:, None]
    return colours.clip(0, 255, out=colours).astype(np.uint8)
