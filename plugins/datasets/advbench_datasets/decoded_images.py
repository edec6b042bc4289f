"""Keeps the decoded pixels of many image files in one file, which is mapped into memory.

Decoding a photograph takes some milliseconds, and 5,000 of them have 0.7 GB of pixels. They are decoded once. All
processes share the memory of the mapped file, and read only the pixels that they use. The SHA-256 of all pixels is
computed only if the file's size or time is not the one at which it was written or last verified.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch

from advbench.api import DataError, DataSources, LabelledImages, replace_atomically, write_atomically
from advbench_datasets.files import UNDECODABLE, Array
from advbench_datasets.image_files import ReadOptions, bright_enough

__all__ = ["Decoded", "ListedFiles", "decoded_images", "list_files"]

FileState: TypeAlias = tuple[str, int, int]
"""A file, its size, and the time of its last change, in nanoseconds."""


@dataclasses.dataclass(frozen=True)
class ListedFiles:
    """Image files with their labels and sample ids.

    Attributes:
        root: The folder of the files.
        files: The files, in the order of the ids.
        labels: A label for each file.
        ids: A sample id for each file, ascending.
    """

    root: Path
    files: tuple[FileState, ...]
    labels: tuple[int, ...]
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Decoded images.

    Attributes:
        images: The images, mapped into memory.
        digest: SHA-256 that covers pixels, labels and ids.
    """

    images: LabelledImages
    digest: str


def list_files(name: str, root: Path, files: Sequence[str], labels: Sequence[int], ids: Sequence[int]) -> ListedFiles:
    """Lists files with their sizes and times.

    Args:
        name: Name of the dataset, for messages.
        root: The folder.
        files: Paths relative to it, in the order of the ids.
        labels: A label for each file.
        ids: A sample id for each file, ascending.

    Raises:
        DataError: A file is missing.
    """
    states = []
    for file in files:
        try:
            status = (root / file).stat()
        except OSError as error:
            raise DataError(f"{name}: {root / file} cannot be read ({error.strerror}); restore it") from error
        states.append((file, status.st_size, status.st_mtime_ns))
    return ListedFiles(root, tuple(states), tuple(labels), tuple(ids))


def decoded_images(listed: ListedFiles, options: ReadOptions, sources: DataSources) -> Decoded:
    """Returns the images of files, which ``options`` bring to one size; decodes them if this has not been done.

    Raises:
        DataError: A file cannot be read, files have different sizes after resizing, or the folder for decoded files is
            not writable.
    """
    # Of the sources, only this folder matters: images are cached once, whatever the others are.
    return _read(listed, options, DataSources(sources.cache_dir, announce=sources.announce))


@functools.lru_cache(maxsize=2)
def _read(listed: ListedFiles, options: ReadOptions, sources: DataSources) -> Decoded:
    described = [str(listed.root.resolve()), listed.files, dataclasses.astuple(options), metadata.version("pillow")]
    key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
    path = sources.cache_dir / f"{options.name}-{key[:16]}.npy"
    digest = _recorded_digest(path)
    if digest is None:
        sources.announce(f"decoding {len(listed.files):,} images of {options.name}; later runs read them from {path}")
        digest = _decode(path, listed, options)
    pixels = np.load(path, mmap_mode="c")  # copy-on-write, since torch warns of read-only arrays
    images = LabelledImages(
        torch.from_numpy(pixels),
        torch.tensor(listed.labels, dtype=torch.int64),
        torch.tensor(listed.ids, dtype=torch.int64),
    )
    content = [digest, pixels.shape, listed.labels, listed.ids]
    return Decoded(images, hashlib.sha256(json.dumps(content).encode()).hexdigest())


def _decode(path: Path, listed: ListedFiles, options: ReadOptions) -> str:
    """Writes the pixels of all files and, beside them, their SHA-256, which it returns."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as temporary:
            digest = _write(temporary, listed, options)
        _record(path, digest, path.stat())
    except OSError as error:
        raise DataError(f"cannot keep the decoded images of {options.name} in {path}: {error}") from error
    return digest


def _write(path: Path, listed: ListedFiles, options: ReadOptions) -> str:
    sha = hashlib.sha256()
    stored: Array | None = None
    for index, (file, _, _) in enumerate(listed.files):
        pixels = options.pixels(listed.root / file)
        if stored is None:
            stored = np.lib.format.open_memmap(path, "w+", np.uint8, (len(listed.files), *pixels.shape))
        if pixels.shape != stored.shape[1:]:
            raise DataError(
                f"{options.name}: {listed.root / file} has {pixels.shape[2]} x {pixels.shape[1]} pixels, the files "
                f"before it {stored.shape[3]} x {stored.shape[2]}"
            )
        stored[index] = pixels
        sha.update(pixels.data)
    if isinstance(stored, np.memmap):
        bright_enough(options.name, stored)
        stored.flush()
    return sha.hexdigest()


def _record(path: Path, digest: str, state: os.stat_result) -> None:
    """Writes, beside the file of pixels, their SHA-256 and the state of the file that has it."""
    entry = {"sha256": digest, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
    write_atomically(path.with_suffix(".json"), json.dumps(entry).encode())


def _recorded_digest(path: Path) -> str | None:
    """Returns the recorded SHA-256 of the pixels; None if the file is missing or has another one.

    The pixels are read only if the file is not in the state in which it was written or last verified.
    """
    try:
        entry = json.loads(path.with_suffix(".json").read_bytes())
        recorded, state = str(entry["sha256"]), path.stat()
        if (entry.get("size"), entry.get("mtime_ns")) == (state.st_size, state.st_mtime_ns):
            return recorded
        if _digest_of_pixels(path) != recorded:
            return None
    except (*UNDECODABLE, KeyError, TypeError, AttributeError):
        return None
    with contextlib.suppress(OSError):  # a cache that cannot be written to is verified each time
        _record(path, recorded, state)
    return recorded


def _digest_of_pixels(path: Path) -> str:
    pixels = np.load(path, mmap_mode="r")
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
