"""Keeps stdout for results: whatever else is printed goes to stderr. Imports neither torch nor rich."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["stdout_kept"]

_STDOUT, _STDERR = 1, 2


@contextlib.contextmanager
def stdout_kept() -> Iterator[TextIO]:
    """Sends to stderr what is printed inside, by C libraries and child processes too.

    Closing stdout inside closes nothing.

    Yields:
        The real stdout, for results.
    """
    usual = sys.stdout
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(_moved(usual)) if _is_the_process_s(usual) else usual
        stack.enter_context(contextlib.redirect_stdout(_ToStderr()))
        yield kept


class _ToStderr(io.TextIOBase):
    """Passes text on to stderr, whatever that is at the time."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stderr.encoding

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        if not sys.stderr.closed:
            sys.stderr.flush()

    def fileno(self) -> int:
        return sys.stderr.fileno()

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Does nothing: what a component closes is not its own."""


def _is_the_process_s(stream: TextIO) -> bool:
    """Whether a stream writes to the process's own stdout, and the process has a stderr."""
    try:
        os.fstat(_STDERR)
        return stream.fileno() == _STDOUT
    except (OSError, ValueError):  # closed, or no file at all
        return False


@contextlib.contextmanager
def _moved(stream: TextIO) -> Iterator[TextIO]:
    """Lets the process's stdout lead to stderr, and yields a stream to where it led before."""
    stream.flush()
    before = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    kept = os.fdopen(before, "w", encoding=stream.encoding, errors=stream.errors or "replace", closefd=False)
    try:
        yield kept
    finally:
        with contextlib.suppress(ValueError):  # a component closed it
            stream.flush()
        try:
            with contextlib.suppress(BrokenPipeError):  # whoever read it has gone
                kept.flush()
        finally:
            os.dup2(before, _STDOUT)
            os.close(before)
