"""Reads the pickles in which CIFAR-10 and CIFAR-100 are published, without running code in them.

A pickle can run arbitrary code. So no name in it is resolved except NumPy's three for arrays, which are replaced by a
class that only stores its state. This also avoids NumPy's warning about old pickles.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench_datasets.files import Array

__all__ = ["PIXELS", "load_batch"]

PIXELS = 3 * 32 * 32
"""Values of an image: 1024 red, 1024 green and 1024 blue pixels, each row by row."""


def load_batch(content: bytes, labels: bytes) -> tuple[Array, Array]:
    """Reads a batch of the Python version.

    Args:
        content: The pickle.
        labels: Key of the labels, such as ``b"labels"``.

    Returns:
        Pixels, shape (n, 3072), and labels, shape (n,).

    Raises:
        ValueError: The file is damaged or of another kind.
    """
    try:
        batch: Mapping[bytes, Any] = _Unpickler(content).load()
        numbers = np.frombuffer(bytes(batch[labels]), dtype=np.uint8)
        return batch[b"data"].pixels().reshape(len(numbers), PIXELS), numbers
    except Exception as error:
        # A damaged pickle can raise any exception.
        raise ValueError(f"no batch of CIFAR's Python version ({type(error).__name__}: {error})") from error


class _Unpickler(pickle.Unpickler):
    """Unpickles plain values and uint8 arrays that Python 2 pickled."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> type:
        """Returns the replacement of a name; rejects all names but NumPy's three."""
        replacement = REPLACEMENTS.get((module, name))
        if replacement is None:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return replacement


class _PickledState:
    """Stores the state that a pickle sets, for an array or its dtype."""

    def __init__(self, *arguments: object) -> None:
        del arguments
        self.state: tuple[object, ...] = ()

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.state = state

    def pixels(self) -> Array:
        """Returns the uint8 array with this state."""
        shape, _, column_major, content = self.state[-4:]
        return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if column_major else "C")  # type: ignore[call-overload, no-any-return]


REPLACEMENTS = {
    ("numpy.core.multiarray", "_reconstruct"): _PickledState,
    ("numpy", "ndarray"): _PickledState,
    ("numpy", "dtype"): _PickledState,
}
