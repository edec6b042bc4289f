"""Threads that plugins start: what one raises is the plugin's, and does not pass unseen."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

from advbench.process.exits import ProcessExitError

__all__ = ["threads_watched"]

_PATIENCE = 0.05
"""Seconds that a thread which was just started is given to fail at once."""

_owners: WeakKeyDictionary[threading.Thread, Callable[[BaseException], None]] = WeakKeyDictionary()


@contextlib.contextmanager
def threads_watched(tell: Callable[[BaseException], None]) -> Iterator[None]:
    """Tells of exceptions that end threads which are started inside, also when that is later.

    Args:
        tell: Called with what a thread raised, in that thread.
    """
    before = set(threading.enumerate())
    usual = threading.excepthook

    def hook(raised: threading.ExceptHookArgs, /) -> None:
        owner = _owners.get(raised.thread) if raised.thread is not None else None
        if owner is None and raised.thread is not None and raised.thread not in before:
            owner = tell
        left = isinstance(raised.exc_value, SystemExit) and not isinstance(raised.exc_value, ProcessExitError)
        if owner is not None and raised.exc_value is not None and not left:
            owner(raised.exc_value)
        else:
            usual(raised)

    threading.excepthook = hook
    try:
        yield
    finally:
        started = [thread for thread in threading.enumerate() if thread not in before]
        for thread in started:
            _owners[thread] = tell
            thread.join(_PATIENCE)
        if not any(thread.is_alive() for thread in started):
            threading.excepthook = usual
