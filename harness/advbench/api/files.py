"""Writing files atomically: a file is either complete or unchanged."""

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
    """Yields a temporary path to write to, which is renamed to ``path`` on success.

    The content is synced to disk before the rename. After an error, a full disk or a kill, the old content of ``path``
    is still there. A symbolic link remains, and its target gets the new content; the file takes the place of a link
    that leads in a circle.

    Args:
        path: The file.
        temporary: Prefix of the temporary path, on the same file system; by default in the folder of ``path``.
    """
    path = Path(os.path.realpath(path))  # Path.resolve raises an exception for links that lead in a circle
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o7777 if path.exists() else 0o666 & ~_umask()
    folder, prefix = (path.parent, f".{path.name[:40]}.") if temporary is None else (temporary.parent, temporary.name)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=".tmp")
    os.close(descriptor)
    written = Path(name)
    try:
        yield written
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.chmod(mode)
        written.replace(path)
        _sync_folder(path.parent)
    except BaseException:
        written.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes, *, temporary: Path | None = None) -> None:
    """Writes a complete file, or leaves the old one on error; see :func:`replace_atomically`."""
    with replace_atomically(path, temporary=temporary) as written:
        written.write_bytes(content)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def _umask() -> int:
    """The umask of the process, which mkstemp ignores."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable, on systems that can sync folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
