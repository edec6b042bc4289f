"""What the image processors of transformers do with the shape of images."""

from __future__ import annotations

from typing import Any

from advbench_models.pretrained.geometry import Geometry
from advbench_models.pretrained.timm_model import timm_geometry

__all__ = ["processor_geometry"]

_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers of filters."""

_WARPS_FROM = 384
"""The size from which ConvNeXT's processor resizes both sides instead of cropping."""


def processor_geometry(processor: Any) -> Geometry:
    """How an image processor resizes and crops.

    Its attributes say so, and have another meaning in some classes. A class that this function does not know is treated
    like most; :func:`~advbench_models.pretrained.preprocessing.measured` then compares the results.

    Args:
        processor: An image processor of transformers.
    """
    kind = type(processor).__name__
    if kind.startswith("TimmWrapper"):
        return timm_geometry(processor.data_config)
    size = _lengths(processor.size)
    crop_pct: float = getattr(processor, "crop_pct", None) or 1.0
    shorter = size.get("shortest_edge")
    resize: int | tuple[int, int] | None = shorter if shorter else (size.get("height", 0), size.get("width", 0))
    crop = None
    if getattr(processor, "do_center_crop", False):
        lengths = _lengths(processor.crop_size)
        crop = (lengths["height"], lengths["width"])
    if kind.startswith("ConvNext") and shorter:
        if shorter < _WARPS_FROM:
            resize, crop = int(shorter / crop_pct), (shorter, shorter)
        else:
            resize = (shorter, shorter)
    elif kind.startswith("PoolFormer"):
        resize = int((shorter or size["height"]) / crop_pct)
    elif kind.startswith("Levit") and shorter:
        resize = int(256 / 224 * shorter)
    if not processor.do_resize:
        resize = None
    return Geometry(resize, crop, _FILTERS[int(processor.resample)], rounds=False)


def _lengths(size: Any) -> dict[str, int]:
    """The entries of a size that are set."""
    items = size.items() if hasattr(size, "items") else vars(size).items()
    return {name: int(length) for name, length in items if length is not None}
