"""Lossless compact encodings of records and images.

Long lists of numbers in JSON are stored as base64, because parsing a thousand numbers digit by digit takes about a
hundred times as long. Images whose pixels are all multiples of 1/255 are stored as 8 bits, a quarter of the size.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["as_bytes", "as_floats", "pack", "unpack"]

PACK_LENGTH = 64
"""Lists of at least this many numbers are packed; shorter ones stay readable."""

_TYPE, _CONTENT = "packed", "base64"
_INTEGERS = ("int8", "int16", "int32", "int64")


def pack(record: Mapping[str, Any]) -> dict[str, Any]:
    """Packs every long list of numbers in a record, and every such list inside a list, as base64 text.

    A list is packed if its items are all bool, all int or all finite float.
    """
    return {name: _packed(value) for name, value in record.items()}


def unpack(record: Mapping[str, Any], *, arrays: bool = False) -> dict[str, Any]:
    """Reverses :func:`pack`.

    Args:
        record: A packed record.
        arrays: Whether to return packed lists as read-only NumPy arrays, which is faster.

    Raises:
        ValueError, TypeError, KeyError: A packed list is damaged.
    """
    unpacked = dict(record)
    for name, value in record.items():
        if type(value) is dict or (type(value) is list and value and type(value[0]) in (list, dict)):
            unpacked[name] = _unpacked(value, arrays)
    return unpacked


def as_bytes(images: torch.Tensor) -> torch.Tensor | None:
    """Converts images in [0, 1] to uint8 if :func:`as_floats` restores them exactly; otherwise returns None."""
    import torch

    if images.dtype != torch.float32:
        return None
    levels = (images * 255).round().to(torch.uint8)
    return levels if torch.equal(as_floats(levels), images) else None


def as_floats(levels: torch.Tensor) -> torch.Tensor:
    """Converts 8-bit images to float32 in [0, 1]."""
    import torch

    return levels.to(torch.float32) / 255


def _packed(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    if isinstance(value[0], list):
        return [_packed(item) for item in value]
    types = set(map(type, value)) if len(value) >= PACK_LENGTH else set()
    if types == {bool}:
        array = np.array(value, dtype=np.bool_)
    elif types == {int}:
        name = next((name for name in _INTEGERS if _fits(value, name)), None)
        if name is None:
            return value
        array = np.array(value, dtype=_little_endian(name))
    elif types == {float} and np.isfinite(value).all():
        array = np.array(value, dtype=_little_endian("float64"))
    else:
        return value
    return {_TYPE: array.dtype.name, _CONTENT: base64.b64encode(array.tobytes()).decode()}


def _fits(values: list[int], name: str) -> bool:
    bounds = np.iinfo(name)
    return int(bounds.min) <= min(values) and max(values) <= int(bounds.max)


def _little_endian(name: str) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(name).newbyteorder("<")
    return dtype


def _unpacked(value: Any, arrays: bool) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict) or value.keys() != {_TYPE, _CONTENT}:
        return value
    array = np.frombuffer(base64.b64decode(value[_CONTENT], validate=True), dtype=_little_endian(value[_TYPE]))
    return array if arrays else array.tolist()
