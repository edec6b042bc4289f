"""Resizes and crops images as the evaluation transforms of libraries do, in a form that autograd follows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

__all__ = ["INTERPOLATIONS", "Geometry"]

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""The filters that have a gradient on all devices; the last two are antialiased, as in Pillow."""


@dataclass(frozen=True)
class Geometry:
    """Resizing and then a central crop.

    Attributes:
        resize: The length of the shorter side, which keeps the aspect ratio; or height and width; or None.
        crop: Height and width, or None. Images smaller than this are padded with black.
        interpolation: One of :data:`INTERPOLATIONS`.
        rounds: Whether the margin of an odd crop is rounded to the nearest even number, as in torchvision. Otherwise it
            is rounded down, as in transformers.
    """

    resize: int | tuple[int, int] | None
    crop: tuple[int, int] | None
    interpolation: str = "bicubic"
    rounds: bool = True

    @property
    def size(self) -> tuple[int, int] | None:
        """The height and width of the result, or None if they depend on the images."""
        if self.crop is not None:
            return self.crop
        return self.resize if isinstance(self.resize, tuple) else None

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Resizes and crops images.

        Args:
            images: float32 in [0, 1], shape (batch, channels, height, width).

        Returns:
            float32 in [0, 1], shape (batch, channels, *size). Libraries resize images of 8 bits and round the result
            to 8 bits; this function does not round, since rounding has no gradient.
        """
        height, width = images.shape[2:]
        resized = self._resized_size(height, width)
        if resized != (height, width):
            images = self._resized(images, resized)
        if self.crop is None or self.crop == resized:
            return images
        top, left = (self._margin(have, want) for have, want in zip(resized, self.crop, strict=True))
        bottom = resized[0] - self.crop[0] - top
        right = resized[1] - self.crop[1] - left
        return functional.pad(images, (-left, -right, -top, -bottom))  # a negative padding crops

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize

    def _resized(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        if self.interpolation == "nearest":
            return functional.interpolate(images, size=size, mode="nearest-exact")
        resized = functional.interpolate(
            images, size=size, mode=self.interpolation, align_corners=False, antialias=True
        )
        return resized.clamp(0, 1) if self.interpolation == "bicubic" else resized  # it overshoots at edges

    def _margin(self, have: int, want: int) -> int:
        """How many rows or columns to remove at the start; negative if some are to be added."""
        if have < want:
            return -((want - have) // 2)
        return round((have - want) / 2) if self.rounds else (have - want) // 2
