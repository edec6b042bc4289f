"""Locks of a store, which other processes and machines see and which end with their process.

Each lock is a POSIX lock on one byte of a single file, at an offset derived from its name. So nothing has to be cleaned
up: a killed process leaves no lock, and a lock leaves no file. Network file systems support such locks, too. On a file
system without them, every lock appears free, and the worst that can happen is that work is done twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["Locks", "locks_of"]

_BITS = 60
_BY_OTHERS = (errno.EACCES, errno.EAGAIN)
_ACQUIRED, _TAKEN, _UNKNOWN = "acquired", "taken", "unknown"


class Locks:
    """The locks of one store in this process; get them from :func:`locks_of`.

    Args:
        path: The lock file; created when the first lock is taken.

    Attributes:
        writer: Random id of this process as a writer: 15 hexadecimal digits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = secrets.token_hex(_BITS // 8 + 1)[: _BITS // 4]
        self._descriptor: int | None = None
        self._held: dict[int, int] = {}
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claims a piece of work while the block runs; yields False if somebody else has claimed it."""
        offset = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> (64 - _BITS)
        acquired = self._take(offset) != _TAKEN
        try:
            yield acquired
        finally:
            if acquired:
                self._release(offset)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Marks this process as writing while the block runs, so that others leave its temporary files alone."""
        offset = int(self.writer, 16)
        self._take(offset, reentrant=True)
        try:
            yield
        finally:
            self._release(offset)

    def writer_is_gone(self, writer: str) -> bool | None:
        """Whether the writer with this id is no longer writing; None if the file system has no locks."""
        offset = int(writer, 16)
        status = self._take(offset)
        if status != _TAKEN:
            self._release(offset)
        return None if status == _UNKNOWN else status == _ACQUIRED

    def _take(self, offset: int, *, reentrant: bool = False) -> str:
        """Locks a byte. With ``reentrant``, this process may lock it several times."""
        with self._guard:
            if offset in self._held:
                if not reentrant:
                    return _TAKEN
                self._held[offset] += 1
                return _ACQUIRED
            status = self._lock(offset)
            if status != _TAKEN:
                self._held[offset] = 1
            self._close_if_idle()
            return status

    def _release(self, offset: int) -> None:
        with self._guard:
            self._held[offset] -= 1
            if self._held[offset]:
                return
            del self._held[offset]
            if sys.platform != "win32" and self._descriptor is not None:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, offset)
            self._close_if_idle()

    def _lock(self, offset: int) -> str:
        if sys.platform == "win32":
            return _UNKNOWN
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
        except OSError as error:
            return _TAKEN if error.errno in _BY_OTHERS and self._descriptor is not None else _UNKNOWN
        return _ACQUIRED

    def _close_if_idle(self) -> None:
        """Closes the file if no lock is held; closing it earlier would release all locks of this process."""
        if self._descriptor is not None and not self._held:
            os.close(self._descriptor)
            self._descriptor = None


_known: dict[tuple[int, Path], Locks] = {}
_known_guard = threading.Lock()


def locks_of(path: Path) -> Locks:
    """The locks of a file; the same object for all callers in this process."""
    key = os.getpid(), path.absolute()
    with _known_guard:
        return _known.setdefault(key, Locks(path))
