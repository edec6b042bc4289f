"""The formats in which a batch of CIFAR-10 is found, all decoded to the records of its binary version.

A record is an image: its label, then 1024 red, 1024 green and 1024 blue pixels, each row by row.
"""

from __future__ import annotations

import io
import json
import pickle

import numpy as np

from advbench_datasets.files import Array

__all__ = ["CIFAR10_CLASSES", "PIXELS", "decode_binary", "decode_labels", "decode_python", "decode_sprite", "records"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The names of the classes, by their labels (batches.meta)."""

IMAGES = 10_000
PIXELS = 3 * 32 * 32


def records(labels: Array, pixels: Array) -> Array:
    """Puts labels, shape (n,), before pixels, shape (n, 3072).

    Raises:
        ValueError: They are not of those shapes.
    """
    if pixels.shape != (len(labels), PIXELS):
        raise ValueError(f"{len(labels)} labels and pixels of shape {pixels.shape}")
    return np.concatenate([labels[:, np.newaxis], pixels], axis=1)


def decode_binary(content: bytes) -> Array:
    """Decodes a file of the binary version; the array, shape (n, 3073), is read-only.

    Raises:
        ValueError: It does not end with a whole record.
    """
    if len(content) % (1 + PIXELS):
        raise ValueError(f"its {len(content)} bytes are no whole number of records of {1 + PIXELS}")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, 1 + PIXELS)


def decode_python(content: bytes) -> Array:
    """Decodes a file of the Python version, which torchvision downloads, to records of shape (n, 3073).

    Such a file is a pickle, and a pickle can run anything. So no name in it is resolved except the three
    with which NumPy pickled an array, and these become stand-ins that only keep what they are given.
    (That also spares it NumPy's complaint about pickles of that age.)

    Raises:
        ValueError: It is no such file.
    """
    try:
        batch = _Unpickler(content).load()
        labels = np.frombuffer(bytes(batch[b"labels"]), dtype=np.uint8)
        return records(labels, batch[b"data"].pixels())
    except Exception as error:
        # A damaged pickle raises whatever the step that it derails into raises.
        raise ValueError(f"no batch of CIFAR-10's Python version ({type(error).__name__}: {error})") from error


def decode_sprite(content: bytes) -> Array:
    """Decodes a PNG that has an image a row, 1024 pixels wide, to pixels of shape (10000, 3072).

    Raises:
        ValueError: It is no such PNG.
    """
    from PIL.PngImagePlugin import PngImageFile

    try:
        # Not opened with Image.open, whose limit on the number of pixels is one for the whole process; the
        # size is looked at before anything is decoded.
        with PngImageFile(io.BytesIO(content)) as image:
            if (image.mode, *image.size) != ("RGB", 1024, IMAGES):
                raise ValueError(f"a PNG of mode {image.mode} and size {image.size}")
            rows = np.asarray(image, dtype=np.uint8)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"no readable PNG: {error}") from error
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(IMAGES, PIXELS)


def decode_labels(content: bytes) -> Array:
    """Decodes a JSON list of labels; the array, shape (n,), is read-only.

    Raises:
        ValueError: It is something else.
    """
    labels = json.loads(content)
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError("no JSON list of labels")
    return np.frombuffer(bytes(labels), dtype=np.uint8)


class _Unpickler(pickle.Unpickler):
    """Unpickles what Python 2 pickled out of plain values and arrays of bytes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> type:
        """The stand-in for a name; all names but NumPy's three are refused."""
        stand_in = STAND_INS.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return stand_in


class _Kept:
    """Keeps the state that it is given, as a pickle of an array or of its element type gives it."""

    def __init__(self, *arguments: object) -> None:
        del arguments
        self.state: tuple[object, ...] = ()

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.state = state

    def pixels(self) -> Array:
        """The array of bytes whose state this is."""
        shape, _, by_columns, content = self.state[-4:]
        return np.frombuffer(content, dtype=np.uint8).reshape(shape, order="F" if by_columns else "C")  # type: ignore[call-overload, no-any-return]


STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Kept,
    ("numpy", "ndarray"): _Kept,
    ("numpy", "dtype"): _Kept,
}
