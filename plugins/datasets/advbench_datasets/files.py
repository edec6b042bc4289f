"""The files in which a dataset is published, wherever they come from."""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from advbench.api import DataError

__all__ = ["UNDECODABLE", "Array", "Arrays", "PublishedFiles", "Unavailable"]

Array: TypeAlias = npt.NDArray[np.uint8]

Arrays: TypeAlias = Mapping[str, Array]
"""Decoded files by their names."""

UNDECODABLE = (ValueError, OSError, EOFError, zlib.error)
"""What decoding raises where a file is damaged or something else."""


class Unavailable(Exception):  # noqa: N818 - it says that the next source is to be tried, not that something is wrong
    """A source does not have the files; the message names the source and says why."""


@dataclasses.dataclass(frozen=True)
class PublishedFiles:
    """Files of known content, each of which decodes to one array.

    Attributes:
        title: The dataset's name, for messages.
        digests: By each file's name, without what may follow it: SHA-256 of the array's elements.
        decoders: By what follows the name, the first preferred: how such a file is decoded. Each raises
            one of ``UNDECODABLE`` where it cannot.
        folders: Where the files may lie below the folder that is given; "." is that folder.
        namesakes: What else uses the same file names, for the message; "" where nothing does.
    """

    title: str
    digests: Mapping[str, str]
    decoders: Mapping[str, Callable[[bytes], Array]]
    folders: tuple[str, ...]
    namesakes: str = ""

    def locate(self, root: Path, names: Collection[str]) -> dict[str, Path]:
        """Finds these files, all in one folder.

        Raises:
            Unavailable: Not all of them are there.
        """
        lacking = []
        for folder in self.folders:
            found = {name: self._find(root / folder, name) for name in names}
            present = {name: path for name, path in found.items() if path}
            if len(present) == len(found):
                return present
            lacking.append([name for name in found if name not in present])
        fewest = min(lacking, key=len)
        raise Unavailable(f"{root} (no {', '.join(fewest)})")

    def read(self, paths: Mapping[str, Path]) -> Arrays:
        """Reads and decodes the files that :meth:`locate` found, and holds them to their digests.

        Raises:
            DataError: One is unreadable, damaged or something else; the message names it.
        """
        return {name: self.verified(name, self._decode(name, path), path) for name, path in paths.items()}

    def verified(self, name: str, array: Array, origin: object) -> Array:
        """The array itself, once its content is known to be the recorded one.

        Args:
            name: Which file it was decoded from.
            array: What was decoded.
            origin: Where it came from, for the message.

        Raises:
            DataError: It is something else.
        """
        if not self.is_recorded(name, array):
            hint = f" ({self.namesakes})" if self.namesakes else "; fetch it again"
            raise DataError(f"{origin} is not {self.title}'s {name}: its SHA-256 differs from the recorded one{hint}")
        return array

    def is_recorded(self, name: str, array: Array) -> bool:
        """Whether a decoded file holds what the published one holds."""
        return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() == self.digests[name]

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
