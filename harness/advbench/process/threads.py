"""Reports exceptions in threads that components start."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from advbench.process.exits import ProcessExitError

__all__ = ["report_thread_errors"]

_JOIN_SECONDS = 0.05
"""Seconds to wait for a thread that has just started, in case it fails at once."""

_owners: WeakKeyDictionary[threading.Thread, Callable[[BaseException], None]] = WeakKeyDictionary()


@contextlib.contextmanager
def report_thread_errors(report: Callable[[BaseException], None]) -> Iterator[None]:
    """Reports exceptions in threads that start within the block, even if they are raised later.

    Args:
        report: Called with the exception, in the thread that raised it.
    """
    before = set(threading.enumerate())
    previous = threading.excepthook

    def hook(raised: threading.ExceptHookArgs, /) -> None:
        owner = _owners.get(raised.thread) if raised.thread is not None else None
        if owner is None and raised.thread is not None and raised.thread not in before:
            owner = report
        exited = isinstance(raised.exc_value, SystemExit) and not isinstance(raised.exc_value, ProcessExitError)
        if owner is not None and raised.exc_value is not None and not exited:
            owner(raised.exc_value)
        else:
            previous(raised)

    threading.excepthook = hook
    try:
        yield
    finally:
        started = [thread for thread in threading.enumerate() if thread not in before]
        for thread in started:
            _owners[thread] = report
            thread.join(_JOIN_SECONDS)
        if not any(thread.is_alive() for thread in started):
            threading.excepthook = previous
