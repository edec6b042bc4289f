"""The four files in which MNIST is published, wherever they come from."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from advbench.api import DataError
from advbench_datasets.idx import decode_idx

__all__ = ["DIGESTS", "Arrays", "Unavailable", "decode", "is_recorded", "locate", "read"]

Arrays: TypeAlias = Mapping[str, npt.NDArray[np.uint8]]
"""Decoded files by their names: images of shape (n, 28, 28), labels of shape (n,)."""

DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
"""SHA-256 of what each file holds after its header."""


class Unavailable(Exception):  # noqa: N818 - it says that the next source is to be tried, not that something is wrong
    """A source does not have the files; the message names the source and says why."""


def is_recorded(name: str, array: npt.NDArray[np.uint8]) -> bool:
    """Whether a decoded file holds what MNIST's holds."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() == DIGESTS[name]


def decode(name: str, content: bytes, origin: object) -> npt.NDArray[np.uint8]:
    """Decodes one file and holds it to its recorded digest.

    Args:
        name: Which of the four it is.
        content: Its bytes, not compressed.
        origin: Where it came from, for the message.

    Raises:
        DataError: It is damaged, or something else.
    """
    try:
        array = decode_idx(content)
    except ValueError as error:
        raise DataError(f"{origin} is damaged: {error}; fetch it again") from error
    if not is_recorded(name, array):
        raise DataError(
            f"{origin} is not MNIST's {name}: its SHA-256 differs from the recorded one "
            "(Fashion-MNIST and others use the same file names)"
        )
    return array


def locate(root: Path, names: Iterable[str]) -> dict[str, Path]:
    """Finds files in a folder or in torchvision's layout below it, plain or else gzipped.

    Raises:
        Unavailable: Not all of them are there.
    """
    lacking = []
    for folder in (root, root / "MNIST" / "raw"):
        found = {name: _plain_or_gzipped(folder / name) for name in names}
        present = {name: path for name, path in found.items() if path}
        if len(present) == len(found):
            return present
        lacking.append([name for name in found if name not in present])
    fewest = min(lacking, key=len)
    raise Unavailable(f"{root} (no {', '.join(fewest)})")


def read(paths: Mapping[str, Path]) -> Arrays:
    """Reads and decodes the files that :func:`locate` found.

    Raises:
        DataError: One is unreadable, damaged or something else; the message names it.
    """
    return {name: decode(name, _content(path), path) for name, path in paths.items()}


def _plain_or_gzipped(path: Path) -> Path | None:
    return next((file for file in (path, path.with_name(f"{path.name}.gz")) if file.is_file()), None)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not readable: {error}; fetch it again") from error
