"""The end of the process: components may neither bring it about at once without a message, nor put it off forever.

Imports only the standard library.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["ProcessExitError", "end_process", "end_within", "exits_refused", "watch_exits"]

end_process = os._exit
"""Ends the process at once, also within :func:`exits_refused`."""

_NAMES = ("_exit", "abort", "execv", "execve")
"""Functions of ``os`` that end the program of this process; ``os.execl`` and its kind call the last two."""


class ProcessExitError(SystemExit):
    """A component called a function that ends the process at once; the message contains the call."""


class _Refusal(NamedTuple):
    """The scope in which calls are refused.

    Attributes:
        process: The process; its children may end.
        exempt: The threads that were running before, except the one that entered the scope.
    """

    process: int
    exempt: frozenset[int | None]


_refusals: list[_Refusal] = []


@contextlib.contextmanager
def exits_refused() -> Iterator[None]:
    """Makes ``os._exit`` and similar functions raise an exception, in this thread and in threads started in the block.

    Worker processes may end: the pool notices that, and the driver reports it.

    Raises:
        ProcessExitError: Such a function was called.
    """
    if multiprocessing.parent_process() is not None:
        yield
        return
    watch_exits()
    exempt = frozenset(thread.ident for thread in threading.enumerate()) - {threading.get_ident()}
    refusal = _Refusal(os.getpid(), exempt)
    _refusals.append(refusal)
    try:
        yield
    finally:
        _refusals.remove(refusal)


def watch_exits() -> None:
    """Replaces these functions by wrappers that raise an exception within :func:`exits_refused`; does so once."""
    for name in _NAMES:
        function = getattr(os, name, None)
        if function is not None and not hasattr(function, "_refusable"):
            setattr(os, name, _refusable(name, function))


def _refusable(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if any(refusal.process == os.getpid() and threading.get_ident() not in refusal.exempt for refusal in _refusals):
            arguments = ", ".join(map(repr, args))
            raise ProcessExitError(f"os.{name}({arguments[:80]}) would have ended the whole process")
        return function(*args, **kwargs)

    wrapper.__name__ = wrapper.__qualname__ = name  # for pickling
    wrapper.__module__ = "os"
    wrapper.__doc__ = function.__doc__
    wrapper._refusable = True  # type: ignore[attr-defined]
    return wrapper


def end_within(seconds: float, code: int) -> None:
    """Ends the process after some seconds if it has not ended by itself; call it when everything is done and written.

    A component may have started a thread that never ends, or registered an ``atexit`` hook that does not return.

    Args:
        seconds: The time for the interpreter's own clean-up.
        code: The exit code.
    """

    def end() -> None:
        time.sleep(seconds)
        with contextlib.suppress(Exception):
            print(
                f"advbench: warning: a thread, child process or atexit hook of a plugin did not end within "
                f"{seconds:g} s after the command; it was ended",
                file=sys.stderr,
            )
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        end_process(code)

    threading.Thread(target=end, name="advbench-end", daemon=True).start()
