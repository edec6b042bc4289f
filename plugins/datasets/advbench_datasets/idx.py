"""Decoder of the IDX format, in which MNIST is published.

A file consists of two zero bytes, the element type (8: unsigned byte), the number of dimensions, each dimension as a
big-endian 32-bit integer, and the elements.
"""

from __future__ import annotations

import math

import numpy as np

from advbench_datasets.files import Array

__all__ = ["decode_idx"]


def decode_idx(content: bytes) -> Array:
    """Decodes an IDX file of unsigned bytes; the array is read-only.

    Raises:
        ValueError: The content is not IDX, or its length differs from that in the header.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of unsigned bytes")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise ValueError("truncated within the header")
    shape = [int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4)]
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"it has {len(content)} bytes but its header says {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
