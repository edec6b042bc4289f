"""Reads arrays from a NumPy archive, without unpickling, and checks their size before allocating memory."""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from advbench.api import DataError

__all__ = ["NpzArchive"]

_UNREADABLE = (
    OSError, EOFError, KeyError, ValueError, SyntaxError, NotImplementedError, RuntimeError, OverflowError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""Exceptions that reading a damaged archive raises."""

_MAX_NAMES_SHOWN = 12


class NpzArchive:
    """An ``.npz`` file, open for reading.

    Args:
        path: The file.

    Attributes:
        names: The keys of its members, in the order of the file.

    Raises:
        DataError: The file is damaged or of another kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                beginning = file.read(6)
            if beginning == b"\x93NUMPY" and path.stat().st_size > 10:
                self.fail("is a single array; save images and labels with numpy.savez(FILE, images=…, labels=…)")
            self._zip = zipfile.ZipFile(path)
        except _UNREADABLE as error:
            raise self._damaged(error) from error
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        self.names = [name for name, info in self._members.items() if not info.is_dir()]

    def __enter__(self) -> NpzArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def format_names(self) -> str:
        """Returns the keys, formatted for a message."""
        display_name = ", ".join(_printable(name) for name in self.names[:_MAX_NAMES_SHOWN])
        remaining = len(self.names) - _MAX_NAMES_SHOWN
        return f"{display_name} and {remaining} more" if remaining > 0 else display_name or "none"

    def read(self, name: str) -> npt.NDArray[Any]:
        """Reads one array.

        Raises:
            DataError: The member is not an array, is pickled or damaged, or exceeds the memory of this machine.
        """
        info = self._members[name]
        display_name = _printable(name)
        if not info.filename.endswith(".npy"):
            self.fail(f"has a member {display_name!r} that is no array; save arrays with numpy.savez")
        try:
            with self._zip.open(info) as file:
                self._check_header(file, info, display_name)
            with self._zip.open(info) as file:
                array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError as error:
            raise DataError(f"npz: {self.path}: the array {display_name!r} does not fit into memory") from error
        except _UNREADABLE as error:
            raise self._damaged(f"the array {display_name!r}: {error}") from error
        return array

    def _check_header(self, file: IO[bytes], info: zipfile.ZipInfo, display_name: str) -> None:
        """Rejects arrays that must not or cannot be read, before memory is allocated."""
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        reader = readers.get(version)
        if reader is None:
            return  # a header with field names; read_array reports the error
        shape, _, dtype = reader(file)
        if dtype.hasobject:
            self.fail(
                f"has the array {display_name!r} of pickled objects, which could run code and were not read; save "
                "arrays of numbers"
            )
        size = dtype.itemsize
        for side in shape:
            size *= int(side)
        stored = info.file_size - file.tell()
        if size != stored:
            raise ValueError(f"its header says {size:,} bytes, the archive holds {stored:,}")
        memory = _memory()
        if memory is not None and size > memory:
            self.fail(
                f"has an array {display_name!r} of {size / 2**30:,.1f} GiB; this machine has {memory / 2**30:,.1f} GiB "
                "of memory: save fewer images, or uint8"
            )

    def fail(self, what: str) -> NoReturn:
        """Raises a DataError that names the file."""
        raise DataError(f"npz: {self.path} {what}")

    def _damaged(self, error: object) -> DataError:
        return DataError(f"npz: {self.path} is damaged or no .npz file ({error})")


def _memory() -> int | None:
    """Returns the bytes of memory of this machine; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
