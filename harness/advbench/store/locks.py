"""Who works on what in a store: locks that several processes and machines see, and that end with their process.

All of them are bytes of one file, far apart, so that nothing is left behind: a process that is killed leaves no lock,
and a lock leaves no file. Network file systems have such locks, too; where a file system has none, everyone is told
that everything is free, and the worst that happens is work done twice.
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
_MINE, _TAKEN, _UNKNOWN = "mine", "taken", "unknown"


class Locks:
    """The locks of one store, as this process sees them; see :func:`locks_of`.

    Args:
        path: The file of which they are bytes; made when the first is asked for.

    Attributes:
        writer: What this process is called among those that write: 15 hexadecimal digits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = secrets.token_hex(_BITS // 8 + 1)[: _BITS // 4]
        self._descriptor: int | None = None
        self._held: dict[int, int] = {}
        self._guard = threading.Lock()

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Claims the work on something while the block runs; gives whether nobody else has."""
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> (64 - _BITS)
        mine = self._take(place) != _TAKEN
        try:
            yield mine
        finally:
            if mine:
                self._release(place)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Lets others see, while the block runs, that files with this process's name in theirs are being written."""
        place = int(self.writer, 16)
        self._take(place, again=True)
        try:
            yield
        finally:
            self._release(place)

    def writer_is_gone(self, writer: str) -> bool | None:
        """Whether no process of this name writes any more; None where that cannot be told."""
        place = int(writer, 16)
        found = self._take(place)
        if found != _TAKEN:
            self._release(place)
        return None if found == _UNKNOWN else found == _MINE

    def _take(self, place: int, *, again: bool = False) -> str:
        """Takes a byte, which this process may hold several times with ``again``."""
        with self._guard:
            if place in self._held:
                if not again:
                    return _TAKEN
                self._held[place] += 1
                return _MINE
            found = self._lock(place)
            if found != _TAKEN:
                self._held[place] = 1
            self._close_if_idle()
            return found

    def _release(self, place: int) -> None:
        with self._guard:
            self._held[place] -= 1
            if self._held[place]:
                return
            del self._held[place]
            if sys.platform != "win32" and self._descriptor is not None:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)
            self._close_if_idle()

    def _lock(self, place: int) -> str:
        if sys.platform == "win32":
            return _UNKNOWN
        try:
            if self._descriptor is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            return _TAKEN if error.errno in _BY_OTHERS and self._descriptor is not None else _UNKNOWN
        return _MINE

    def _close_if_idle(self) -> None:
        """Closes the file, which would end every lock of this process, once there is none."""
        if self._descriptor is not None and not self._held:
            os.close(self._descriptor)
            self._descriptor = None


_known: dict[tuple[int, Path], Locks] = {}
_known_guard = threading.Lock()


def locks_of(path: Path) -> Locks:
    """The locks in a file: the same object for all of this process."""
    key = os.getpid(), path.absolute()
    with _known_guard:
        return _known.setdefault(key, Locks(path))
