"""Published files of a dataset with their digests and decoders."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from advbench.api import DataError

__all__ = ["UNDECODABLE", "Array", "Arrays", "PublishedFiles", "Unavailable", "tree_state"]

Array: TypeAlias = npt.NDArray[np.uint8]

Arrays: TypeAlias = Mapping[str, Array]
"""Decoded files by name."""

UNDECODABLE = (ValueError, OSError, EOFError, zlib.error)
"""Exceptions of decoders for files that are damaged or of another kind."""


class Unavailable(Exception):  # noqa: N818 - not an error: the next source is tried
    """A source does not have the files; the message names the source and the reason."""


def tree_state(root: Path, *, files: bool = True) -> str:
    """A digest of the paths, sizes and times of all files below a folder, which changes if a file does.

    Args:
        root: The folder.
        files: Whether to look at files; without, at the folder itself and the folders in it alone, whose times change
            if files are added or removed.

    Raises:
        OSError: The folder cannot be read.
    """
    states = [(str(root), root.stat())]
    folders, visited = [str(root)], {os.path.realpath(root)}
    for folder in folders:  # grows while it is read
        for entry in os.scandir(folder):
            inside = entry.is_dir()
            if inside and files and (real := os.path.realpath(entry.path)) not in visited:  # links may lead in a circle
                visited.add(real)
                folders.append(entry.path)
            if inside != files and os.path.exists(entry.path):  # noqa: PTH110  many files
                states.append((entry.path, entry.stat()))
    seen = sorted((path, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for path, state in states)
    return hashlib.sha256(repr(seen).encode(errors="surrogateescape")).hexdigest()


@dataclasses.dataclass(frozen=True)
class PublishedFiles:
    """Files of known content, each of which decodes to one array.

    Attributes:
        title: Name of the dataset, for messages.
        digests: Digest of the array's elements by file name, without suffix.
        decoders: Decoders by suffix, in order of preference; each may raise one of ``UNDECODABLE``.
        folders: Folders that may contain the files, relative to a given folder; "." is that folder.
        namesakes: Other datasets with the same file names, for messages; "" if there are none.
        algorithm: The digests' algorithm, for :func:`hashlib.new`.
    """

    title: str
    digests: Mapping[str, str]
    decoders: Mapping[str, Callable[[bytes], Array]]
    folders: tuple[str, ...]
    namesakes: str = ""
    algorithm: str = "sha256"

    def locate(self, root: Path, names: Collection[str]) -> dict[str, Path]:
        """Finds these files, all in one folder.

        Raises:
            Unavailable: Some are missing.
        """
        missing = []
        for folder in self.folders:
            paths_or_none = {name: self._find(root / folder, name) for name in names}
            present = {name: path for name, path in paths_or_none.items() if path}
            if len(present) == len(paths_or_none):
                return present
            missing.append([name for name in paths_or_none if name not in present])
        fewest_missing = min(missing, key=len)
        raise Unavailable(f"{root} (no {', '.join(fewest_missing)})")

    def read(self, paths: Mapping[str, Path]) -> Arrays:
        """Reads and decodes the files that :meth:`locate` returned, and checks their digests.

        Raises:
            DataError: A file is unreadable, damaged or of other content; the message names it.
        """
        return {name: self.verify(name, self._decode(name, path), path) for name, path in paths.items()}

    def verify(self, name: str, array: Array, origin: object) -> Array:
        """Returns the array if its content is the recorded one.

        Args:
            name: Name of the file it was decoded from.
            array: The decoded array.
            origin: Its source, for the message.

        Raises:
            DataError: The content is different.
        """
        if not self.is_recorded(name, array):
            hint = f" ({self.namesakes})" if self.namesakes else "; fetch it again"
            raise DataError(
                f"{origin} is not {self.title}'s {name}: its {self._digest_name} differs from the recorded one{hint}"
            )
        return array

    def is_recorded(self, name: str, array: Array) -> bool:
        """Returns whether a decoded file has the published content."""
        content = np.ascontiguousarray(array).data
        return hashlib.new(self.algorithm, content, usedforsecurity=False).hexdigest() == self.digests[name]

    @property
    def _digest_name(self) -> str:
        return {"sha256": "SHA-256", "md5": "MD5"}[self.algorithm]

    def _find(self, folder: Path, name: str) -> Path | None:
        return next((path for ending in self.decoders if (path := folder / f"{name}{ending}").is_file()), None)

    def _decode(self, name: str, path: Path) -> Array:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} is not readable: {error}") from error
        try:
            return self.decoders[path.name[len(name) :]](content)
        except UNDECODABLE as error:
            raise DataError(f"{path} is damaged: {error}; fetch it again") from error
