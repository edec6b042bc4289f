"""The bytes of the store's entries: reading them quickly, and verifying their digests before they are used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from advbench.store.digests import canonical_json

if TYPE_CHECKING:
    import torch

__all__ = ["read_file", "tensors_digest", "verified_record"]

_START, _SEPARATOR, _TAIL = b'{"material":', b',"record":', b',"sha256":"'
"""The JSON around the parts of an entry, whose keys are sorted as in all canonical JSON."""

_DECODER = json.JSONDecoder()

_BLOCK_SIZE = 1 << 20
"""Bytes read from a file at a time."""


def verified_record(content: bytes, key: str) -> dict[str, Any] | None:
    """The record of an entry, or None if the content is not what was written under the key.

    Entries are canonical JSON, so the digests are computed from the bytes of the file, and nothing is parsed before its
    digest has been verified.
    """
    end_of_entry = content[-len(_TAIL) - 66 :]
    if not content.startswith(_START) or not end_of_entry.startswith(_TAIL) or not end_of_entry.endswith(b'"}'):
        return None
    checksum = end_of_entry[len(_TAIL) : -2]
    start = len(_START)
    while (end := content.find(_SEPARATOR, start)) >= 0:  # a text inside the key inputs may look like the separator
        if hashlib.sha256(content[len(_START) : end]).hexdigest() == key:
            text = content[end + len(_SEPARATOR) : -len(end_of_entry)]
            return _parse_record(text) if hashlib.sha256(text).hexdigest().encode() == checksum else None
        start = end + 1
    return None


def _parse_record(text: bytes) -> dict[str, Any] | None:
    """Parses the JSON of a record; None if it is not an object or is followed by anything else."""
    decoded = text.decode()
    record, end = _DECODER.raw_decode(decoded)
    return record if isinstance(record, dict) and end == len(decoded) else None


def read_file(path: str) -> bytes:
    """Reads a file. For a hundred thousand small files, creating path and file objects would take seconds.

    A FIFO, which an ordinary read would wait for, appears empty.

    Raises:
        OSError: The file does not exist or cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        content = os.read(descriptor, _BLOCK_SIZE)
        while block := os.read(descriptor, _BLOCK_SIZE):
            content += block
    finally:
        os.close(descriptor)
    return content


def tensors_digest(tensors: Mapping[str, torch.Tensor], record: Any) -> str:
    """SHA-256 over the names, types, shapes and values of tensors, and over their record."""
    sha = hashlib.sha256(canonical_json(record))
    for name in sorted(tensors):
        array = tensors[name].contiguous().numpy()
        sha.update(f"{name}{array.dtype}{array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()
