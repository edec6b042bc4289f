"""Decoders for the file formats of CIFAR-10's batches; all return records of the binary version.

A record is one image: its label, then 1024 red, 1024 green and 1024 blue pixels, each row by row.
"""

from __future__ import annotations

import io
import json

import numpy as np

from advbench_datasets.cifar_pickles import PIXELS, load_batch
from advbench_datasets.files import Array

__all__ = ["CIFAR10_CLASSES", "PIXELS", "decode_binary", "decode_labels", "decode_python", "decode_sprite", "records"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""Class names in the order of the labels (batches.meta)."""

IMAGES = 10_000


def records(labels: Array, pixels: Array) -> Array:
    """Concatenates labels, shape (n,), and pixels, shape (n, 3072), to records.

    Raises:
        ValueError: The shapes are different.
    """
    if pixels.shape != (len(labels), PIXELS):
        raise ValueError(f"{len(labels)} labels and pixels of shape {pixels.shape}")
    return np.concatenate([labels[:, np.newaxis], pixels], axis=1)


def decode_binary(content: bytes) -> Array:
    """Decodes a file of the binary version; the array, shape (n, 3073), is read-only.

    Raises:
        ValueError: The last record is incomplete.
    """
    if len(content) % (1 + PIXELS):
        raise ValueError(f"its {len(content)} bytes are not a whole number of records of {1 + PIXELS}")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, 1 + PIXELS)


def decode_python(content: bytes) -> Array:
    """Decodes a file of the Python version, which torchvision downloads, to records of shape (n, 3073).

    Raises:
        ValueError: The file is damaged or of another kind.
    """
    pixels, labels = load_batch(content, b"labels")
    return records(labels, pixels)


def decode_sprite(content: bytes) -> Array:
    """Decodes a PNG with one image per row, 1024 pixels wide, to pixels of shape (10000, 3072).

    Raises:
        ValueError: The content is not such a PNG.
    """
    from PIL.PngImagePlugin import PngImageFile

    try:
        # Image.open has a limit on the number of pixels, which is global to the process; here, the size is checked
        # before decoding.
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
        ValueError: The content is not such a list.
    """
    labels = json.loads(content)
    if not isinstance(labels, list) or not all(isinstance(label, int) for label in labels):
        raise ValueError("no JSON list of labels")
    return np.frombuffer(bytes(labels), dtype=np.uint8)
