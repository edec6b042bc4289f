"""Differentiable JPEG: compression and decompression in torch, with a differentiable rounding."""

from __future__ import annotations

import functools
import math

import torch
from torch.nn import functional

__all__ = ["differentiable_jpeg"]

_BLOCK = 8

_SLOPE = 0.2

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Quantisation tables of ITU-T T.81, annex K.1, for quality 50."""

_TO_YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))
"""Colour conversion of JFIF 1.02, without the offset of 128."""


def differentiable_jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Approximates JPEG compression with a useful gradient.

    Colour conversion, 4:2:0 subsampling, the discrete cosine transform of blocks and the quantisation tables are those
    of JPEG, scaled by quality as in libjpeg. The rounding of a coefficient c is replaced by ⌊c⌉ + d³ + 0.2 d, with d =
    c − ⌊c⌉. The cube, by Shin and Song, has its slope where a coefficient is about to change. The linear term keeps a
    slope for the many coefficients near 0; without it, attacks on MNIST make no progress.

    Args:
        images: Shape (batch, 1 or 3, height, width), in [0, 1].
        quality: JPEG quality, from 1 to 100.

    Returns:
        Images of the same shape.

    Source: Shin and Song 2017, JPEG-resistant Adversarial Images, section 3.
    """
    levels = images * 255
    if images.shape[1] == 1:
        return (_compress(levels - 128, _table(_LUMA, quality)) + 128) / 255
    planes = torch.einsum("ij,bjhw->bihw", levels.new_tensor(_TO_YCBCR), levels)
    luma = _compress(planes[:, :1] - 128, _table(_LUMA, quality)) + 128
    height, width = images.shape[2:]
    even_chroma = functional.pad(planes[:, 1:], (0, width % 2, 0, height % 2), mode="replicate")
    chroma = _compress(functional.avg_pool2d(even_chroma, 2), _table(_CHROMA, quality))
    chroma = functional.interpolate(chroma, scale_factor=2.0, mode="bilinear", align_corners=False)[
        :, :, :height, :width
    ]
    planes = torch.cat((luma, chroma), dim=1)
    return torch.einsum("ij,bjhw->bihw", levels.new_tensor(_TO_RGB), planes) / 255


def _compress(planes: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Quantises the cosine transform of each 8×8 block and transforms it back."""
    batch, channels, height, width = planes.shape
    pad_bottom, pad_right = -height % _BLOCK, -width % _BLOCK
    padded = functional.pad(planes, (0, pad_right, 0, pad_bottom), mode="replicate")
    rows, columns = padded.shape[2] // _BLOCK, padded.shape[3] // _BLOCK
    blocks = padded.reshape(batch, channels, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    cosines, table = _cosines().to(planes), table.to(planes)
    scaled = cosines @ blocks @ cosines.T / table
    rounded = scaled.detach().round()
    restored = cosines.T @ ((rounded + _soft_rounding_error(scaled - rounded)) * table) @ cosines
    return restored.transpose(3, 4).reshape(padded.shape)[:, :, :height, :width]


def _soft_rounding_error(error: torch.Tensor) -> torch.Tensor:
    """Returns the differentiable replacement of the rounding error."""
    return error**3 + _SLOPE * error


def _table(base: tuple[tuple[int, ...], ...], quality: int) -> torch.Tensor:
    """Returns a quantisation table at a quality, scaled as in libjpeg."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(base) * scale + 50) // 100).clamp(1, 255)


@functools.cache
def _cosines() -> torch.Tensor:
    """Returns the orthonormal cosine transform of 8 values, shape (8, 8)."""
    matrix = torch.empty(_BLOCK, _BLOCK, dtype=torch.float64)
    for k in range(_BLOCK):
        for i in range(_BLOCK):
            matrix[k, i] = math.cos((2 * i + 1) * k * math.pi / (2 * _BLOCK)) * math.sqrt((1 if k == 0 else 2) / _BLOCK)
    return matrix
