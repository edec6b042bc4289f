"""Arrays out of a NumPy archive, checked before memory is taken for them and without unpickling anything."""

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
"""What reading a damaged archive raises."""

_MOST_NAMES = 12


class NpzArchive:
    """An ``.npz`` file, open for reading.

    Args:
        path: The file.

    Attributes:
        names: The keys of its members, in the order of the file.

    Raises:
        DataError: It is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                beginning = file.read(6)
            if beginning == b"\x93NUMPY" and path.stat().st_size > 10:
                self.refuse("is a single array; save images and labels with numpy.savez(FILE, images=…, labels=…)")
            self._zip = zipfile.ZipFile(path)
        except _UNREADABLE as error:
            raise self._damaged(error) from error
        self._members = {info.filename.removesuffix(".npy"): info for info in self._zip.infolist()}
        self.names = [name for name, info in self._members.items() if not info.is_dir()]

    def __enter__(self) -> NpzArchive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def listed(self) -> str:
        """The keys for a message."""
        shown = ", ".join(_printable(name) for name in self.names[:_MOST_NAMES])
        more = len(self.names) - _MOST_NAMES
        return f"{shown} and {more} more" if more > 0 else shown or "none"

    def read(self, name: str) -> npt.NDArray[Any]:
        """One array.

        Raises:
            DataError: The member is no array, pickled, damaged, or larger than the memory of this machine.
        """
        info = self._members[name]
        shown = _printable(name)
        if not info.filename.endswith(".npy"):
            self.refuse(f"has a member {shown!r} that is no array; save arrays with numpy.savez")
        try:
            with self._zip.open(info) as file:
                self._check_header(file, info, shown)
            with self._zip.open(info) as file:
                array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError as error:
            raise DataError(f"npz: {self.path}: the array {shown!r} does not fit into memory") from error
        except _UNREADABLE as error:
            raise self._damaged(f"the array {shown!r}: {error}") from error
        return array

    def _check_header(self, file: IO[bytes], info: zipfile.ZipInfo, shown: str) -> None:
        """Refuses what must not or cannot be read, before memory is taken for it."""
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        reader = readers.get(version)
        if reader is None:
            return  # a header that names fields; read_array says what is wrong with it
        shape, _, dtype = reader(file)
        if dtype.hasobject:
            self.refuse(
                f"holds pickled objects, which could run code, as {shown!r}, so that nothing of them was read; save "
                "arrays of numbers"
            )
        size = dtype.itemsize
        for side in shape:
            size *= int(side)
        held = info.file_size - file.tell()
        if size != held:
            raise ValueError(f"its header tells of {size:,} bytes, the archive holds {held:,}")
        memory = _memory()
        if memory is not None and size > memory:
            self.refuse(
                f"has an array {shown!r} of {size / 2**30:,.1f} GiB; this machine has {memory / 2**30:,.1f} GiB of "
                "memory: save fewer images, or uint8"
            )

    def refuse(self, what: str) -> NoReturn:
        """Raises DataError that names the file."""
        raise DataError(f"npz: {self.path} {what}")

    def _damaged(self, error: object) -> DataError:
        return DataError(f"npz: {self.path} is damaged or no .npz file ({error})")


def _memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]
