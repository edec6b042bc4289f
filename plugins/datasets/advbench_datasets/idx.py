"""The IDX format, in which MNIST is published.

A file is two zero bytes, the type of the elements (8: unsigned byte), the number of dimensions, each
dimension as a big-endian 32-bit number, and the elements.
"""

from __future__ import annotations

import math

import numpy as np

from advbench_datasets.files import Array

__all__ = ["decode_idx"]


def decode_idx(content: bytes) -> Array:
    """Decodes an IDX file of unsigned bytes; the array is read-only.

    Raises:
        ValueError: It is no such file, or shorter or longer than its header says.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of unsigned bytes")
    dimensions = content[3]
    header = 4 + 4 * dimensions
    if len(content) < header:
        raise ValueError("truncated within the header")
    shape = [int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4)]
    promised = header + math.prod(shape)
    if len(content) != promised:
        raise ValueError(f"it has {len(content)} bytes where its header promises {promised}")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)
