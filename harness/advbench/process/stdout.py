"""Keeps stdout for results by sending other output to stderr. Imports neither torch nor rich."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

__all__ = ["stdout_to_stderr"]

_STDOUT, _STDERR = 1, 2


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[TextIO]:
    """Sends output within the block to stderr, including that of C libraries and child processes.

    Closing ``sys.stdout`` within the block has no effect.

    Yields:
        The real stdout, for results.
    """
    original = sys.stdout
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(_redirected(original)) if _is_process_stdout(original) else original
        stack.enter_context(contextlib.redirect_stdout(_ToStderr()))
        yield results


class _ToStderr(io.TextIOBase):
    """Writes text to the current stderr."""

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
        """Does nothing, since the stream does not belong to the component that closes it."""


def _is_process_stdout(stream: TextIO) -> bool:
    """Whether a stream writes to the stdout of the process, and the process has a stderr."""
    try:
        os.fstat(_STDERR)
        return stream.fileno() == _STDOUT
    except (OSError, ValueError):  # closed, or not a file
        return False


@contextlib.contextmanager
def _redirected(stream: TextIO) -> Iterator[TextIO]:
    """Redirects the stdout of the process to stderr, and yields a stream to the original stdout."""
    stream.flush()
    before = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    original = os.fdopen(before, "w", encoding=stream.encoding, errors=stream.errors or "replace", closefd=False)
    try:
        yield original
    finally:
        with contextlib.suppress(ValueError):  # a component closed it
            stream.flush()
        try:
            with contextlib.suppress(BrokenPipeError):  # the reader has gone
                original.flush()
        finally:
            os.dup2(before, _STDOUT)
            os.close(before)
