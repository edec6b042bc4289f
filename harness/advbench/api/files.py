"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replace_atomically", "sha256_file", "write_atomically"]


@contextlib.contextmanager
def replace_atomically(path: Path, *, temporary: Path | None = None) -> Iterator[Path]:
    """Gives a temporary path to write to; on success it becomes ``path``.

    The new content reaches the disk before it takes the name, and an error, a full disk or a kill leaves
    what was at ``path`` before.

    Args:
        path: The file.
        temporary: With what the temporary path begins, on the same file system; else it is beside ``path``.
    """
    path = path.resolve()  # a link stays a link, to the new content
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask()
    folder, prefix = (path.parent, f".{path.name[:40]}.") if temporary is None else (temporary.parent, temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=".tmp")
    os.close(descriptor)
    made = Path(name)
    try:
        yield made
        with made.open("rb") as file:
            os.fsync(file.fileno())
        made.chmod(mode)
        made.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Writes a whole file, or leaves what was there before; see :func:`replace_atomically`."""
    with replace_atomically(path, temporary=temporary) as made:
        made.write_bytes(content)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _umask() -> int:
    """The process's umask, which mkstemp's private mode leaves out of account."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable where the system lets folders be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
