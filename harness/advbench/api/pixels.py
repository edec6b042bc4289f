"""Converting images and labels to the benchmark's format: uint8, or float32 in [0, 1], channels first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["PIXEL_TOLERANCE", "clip_dust", "is_integral", "to_labels", "to_pixels"]

PIXEL_TOLERANCE = 1e-6
"""How far outside [0, 1] a pixel may be because of float32 rounding. It is then clipped; beyond that it is an error."""

_DARK = 64
"""If no 8-bit pixel of a dataset is as bright, and not all are black, then 255 is hardly the value of white."""

_CHANNELS = (1, 3)
_BRIGHT = {255: 128, 65535: 32768}
"""The smallest maximum at which integers are taken as 8-bit or 16-bit pixels. If it is lower, white is ambiguous."""

_CHUNK = 2**24
"""Number of values converted at a time, so that converting a large array needs little extra memory."""

_Array = npt.NDArray[Any]


def to_pixels(images: _Array | torch.Tensor, *, channels_first: bool = False) -> torch.Tensor:
    """Converts images of a common format to uint8 or float32, shape (n, channels, height, width).

    Args:
        images: Shape (n, height, width), (n, channels, height, width) or (n, height, width, channels), the last two
            with 1 or 3 channels. Values are floats in [0, 1], uint8 with a maximum of 0 or at least 64, bool, or
            integers of another type (also stored as floats) whose maximum is from 128 to 255, or for uint16 from 32768
            to 65535. Values up to 1e-6 outside [0, 1] are clipped.
        channels_first: Whether four axes always mean (n, channels, height, width), with any number of channels.

    Returns:
        uint8 in [0, 255] or float32 in [0, 1], shape (n, channels, height, width).

    Raises:
        ValueError: The format is another one or is ambiguous. The message completes a sentence such as "X.npz has …".
    """
    array = _as_array(images)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"images of {array.dtype}; expected numbers: uint8, or floating-point in [0, 1]")
    if array.size == 0:
        raise ValueError(f"images of shape {array.shape}: none")
    array = _channels_first(array, fixed=channels_first)
    if array.dtype == np.bool_:
        return torch.from_numpy(np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255))
    if array.dtype == np.uint8:
        if 0 < (brightest := int(array.max())) < _DARK:
            raise ValueError(
                f"uint8 pixels of at most {brightest}, so that the value of white is unknown: divide them by it, as "
                "float32, or multiply them so that white is 255"
            )
        return torch.from_numpy(np.ascontiguousarray(array))
    return _scaled(array)


def to_labels(labels: _Array | torch.Tensor, count: int) -> tuple[torch.Tensor, int]:
    """Converts labels of a common format to int64.

    Args:
        labels: Whole numbers from 0, shape (n,) or (n, 1), of any type; or one-hot rows, shape (n, classes).
        count: The number of images.

    Returns:
        Labels, int64, shape (n,); and the number of classes, which is a lower bound unless the labels are one-hot.

    Raises:
        ValueError: The format is another one. The message completes a sentence such as "X.npz has …".
    """
    array = _as_array(labels)
    expected = "expected whole numbers from 0, shape (n,), or one-hot rows"
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf":
        raise ValueError(f"labels of {array.dtype}, shape {array.shape}; {expected}")
    if len(array) != count or not count:
        raise ValueError(f"{count} images and {len(array)} labels")
    if array.ndim == 2:
        if not (((array == 0) | (array == 1)).all() and (array.sum(axis=1, dtype=np.float64) == 1).all()):
            raise ValueError(f"labels of shape {array.shape} that are not one-hot rows; {expected}")
        return torch.from_numpy(array.argmax(axis=1).astype(np.int64)), array.shape[1]
    wrong = ~np.isfinite(array) | (array < 0) | (array != np.floor(array)) | (array >= 2**31)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"the label {array[first]} at index {first}; {expected}")
    integers = array.astype(np.int64)
    return torch.from_numpy(integers), int(integers.max()) + 1


def clip_dust(images: torch.Tensor) -> torch.Tensor:
    """Clips floating-point pixels that are at most 1e-6 outside [0, 1], which rounding may cause.

    Args:
        images: Floating-point images of any shape, on the CPU.

    Returns:
        The images themselves if all pixels are in [0, 1], otherwise a clipped copy.

    Raises:
        ValueError: Pixels are NaN, infinite or further outside. The message completes a sentence such as "X.npz has …".
    """
    low, high = check_range(images.numpy())
    return images.clamp(0, 1) if low < 0 or high > 1 else images


def check_range(array: _Array) -> tuple[float, float]:
    """Returns the smallest and the largest pixel.

    Raises:
        ValueError: Pixels are NaN, infinite or more than 1e-6 outside [0, 1]. The message completes a sentence such as
            "X.npz has …".
    """
    if not array.size:
        return 0.0, 0.0
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(low) or not np.isfinite(high):
        wrong = ~np.isfinite(array)
        first = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), array.shape))
        raise ValueError(f"{int(wrong.sum()):,} pixels that are NaN or infinite, the first at index {first}")
    if low < -PIXEL_TOLERANCE or high > 1 + PIXEL_TOLERANCE:
        raise ValueError(f"pixels from {low:.8g} to {high:.8g}; expected [0, 1]: {_advice(low, high)}")
    return low, high


def is_integral(array: _Array) -> bool:
    """Whether all values are whole numbers."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel(order="K")
    return all(bool((part == np.floor(part)).all()) for part in _parts(flat))


def _as_array(values: _Array | torch.Tensor) -> _Array:
    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    values = values.detach().cpu()
    array: _Array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def _channels_first(array: _Array, *, fixed: bool) -> _Array:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise ValueError(f"images of shape {array.shape}; expected (n, height, width), or that with 1 or 3 channels")
    first, last = array.shape[1] in _CHANNELS, array.shape[3] in _CHANNELS
    if fixed or (first and not last):
        return array
    if last and not first:
        moved: _Array = array.transpose(0, 3, 1, 2)
        return moved
    if first:
        raise ValueError(f"images of shape {array.shape}, where axis 1 or 3 may be the channels; save another form")
    raise ValueError(f"images of shape {array.shape}; expected (n, height, width), or that with 1 or 3 channels")


def _scaled(array: _Array) -> torch.Tensor:
    """Converts values of other types than uint8, after detecting their scale."""
    low, high = float(array.min()), float(array.max())
    is_integer = array.dtype.kind in "iu"
    if not is_integer and (
        not np.isfinite(high) or -PIXEL_TOLERANCE <= low <= high <= 1 + PIXEL_TOLERANCE or low < 0 or high > 255
    ):
        check_range(array)
        return _converted(array, np.float32, 1.0).clamp_(0, 1)
    if not is_integer and not is_integral(array):
        check_range(array)
    white = 65535 if array.dtype == np.uint16 and high > 255 else 255
    if low < 0 or not _BRIGHT[white] <= high <= white:
        raise ValueError(
            f"images of {array.dtype} from {low:.8g} to {high:.8g}, and the value of white is unknown; save uint8 from "
            "0 to 255, or floating-point in [0, 1]"
        )
    return _converted(array, np.uint8, 1.0) if white == 255 else _converted(array, np.float32, 1 / white)


def _converted(array: _Array, dtype: type[np.number[Any]], factor: float) -> torch.Tensor:
    result = np.empty(array.shape, dtype)
    rows = max(1, _CHUNK // max(1, array[0].size))
    for start in range(0, len(array), rows):
        part = array[start : start + rows]
        result[start : start + rows] = part if factor == 1.0 else part.astype(np.float64) * factor
    return torch.from_numpy(result)


def _parts(flat: _Array) -> list[_Array]:
    return [flat[start : start + _CHUNK] for start in range(0, len(flat), _CHUNK)]


def _advice(low: float, high: float) -> str:
    if low >= -0.01 and high <= 1.01:
        return "clip them if the difference is only rounding"
    if low < -PIXEL_TOLERANCE:
        return "do not normalise the images; normalisation belongs inside the model"
    if high <= 255:
        return "divide by the value of white, such as 255, or save uint8"
    return "divide by the value of white"
