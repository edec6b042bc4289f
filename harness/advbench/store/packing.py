"""Stored forms that take less room or time than what they stand for, and give it back exactly.

Long lists of numbers in JSON become text: reading a thousand numbers digit by digit takes some hundred times as long.
Images of 8 bits, which attacks that move in whole steps of 1/255 leave, take a quarter of the room as such.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["as_bytes", "as_floats", "pack", "unpack"]

LONG = 64
"""Lists of at least so many numbers are packed; shorter ones stay what a person can read."""

_TYPE, _CONTENT = "packed", "base64"
_WHOLE = ("int8", "int16", "int32", "int64")


def pack(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with every long list of numbers, and every such list in a list, as text.

    A list counts where its items are all bool, all int or all float, and finite.
    """
    return {name: _packed(value) for name, value in record.items()}


def unpack(record: Mapping[str, Any], *, arrays: bool = False) -> dict[str, Any]:
    """The record as it was packed; with ``arrays``, what was packed as NumPy arrays, not to be changed.

    Raises:
        ValueError, TypeError, KeyError: A packed list is damaged.
    """
    unpacked = dict(record)
    for name, value in record.items():
        if type(value) is dict or (type(value) is list and value and type(value[0]) in (list, dict)):
            unpacked[name] = _unpacked(value, arrays)
    return unpacked


def as_bytes(images: torch.Tensor) -> torch.Tensor | None:
    """Images in [0, 1] as uint8, where :func:`as_floats` gives back the very same numbers; otherwise None."""
    if images.dtype != torch.float32:
        return None
    levels = (images * 255).round().to(torch.uint8)
    return levels if torch.equal(as_floats(levels), images) else None


def as_floats(levels: torch.Tensor) -> torch.Tensor:
    """8-bit images as float32 in [0, 1]."""
    return levels.to(torch.float32) / 255


def _packed(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return value
    if isinstance(value[0], list):
        return [_packed(item) for item in value]
    types = set(map(type, value)) if len(value) >= LONG else set()
    if types == {bool}:
        array = np.array(value, dtype=np.bool_)
    elif types == {int}:
        name = next((name for name in _WHOLE if _fits(value, name)), None)
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
