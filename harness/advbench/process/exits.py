"""Calls that would end the process at once, with no message: components that make them in the driver are named.

Imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

__all__ = ["ProcessExitError", "end_process", "exits_refused", "watch_exits"]

end_process = os._exit
"""Ends the process at once, also where :func:`exits_refused` is in force."""

_NAMES = ("_exit", "abort", "execv", "execve")
"""Functions of ``os`` that end the program of this process; ``os.execl`` and its kind call the last two."""


class ProcessExitError(SystemExit):
    """A component called a function that ends the process at once; the message names the call."""


class _Refusal(NamedTuple):
    """Where calls are refused.

    Attributes:
        process: The process; its children end as they like.
        others: The threads that were there before, other than the one that asked for this.
    """

    process: int
    others: frozenset[int | None]


_refusals: list[_Refusal] = []


@contextlib.contextmanager
def exits_refused() -> Iterator[None]:
    """Lets calls of ``os._exit`` and its kind inside raise, in this thread and those that start inside.

    Worker processes end as components let them: the pool notices, and the driver reports it.

    Raises:
        ProcessExitError: Such a function was called inside.
    """
    if multiprocessing.parent_process() is not None:
        yield
        return
    watch_exits()
    others = frozenset(thread.ident for thread in threading.enumerate()) - {threading.get_ident()}
    refusal = _Refusal(os.getpid(), others)
    _refusals.append(refusal)
    try:
        yield
    finally:
        _refusals.remove(refusal)


def watch_exits() -> None:
    """Replaces the functions by ones that do the same, but raise inside :func:`exits_refused`; done once."""
    for name in _NAMES:
        function = getattr(os, name, None)
        if function is not None and not hasattr(function, "_refusable"):
            setattr(os, name, _refusable(name, function))


def _refusable(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        if any(one.process == os.getpid() and threading.get_ident() not in one.others for one in _refusals):
            told = ", ".join(map(repr, args))
            raise ProcessExitError(f"os.{name}({told[:80]}) would have ended the whole process")
        return function(*args, **kwargs)

    called.__name__ = called.__qualname__ = name  # by which it is pickled
    called.__module__ = "os"
    called.__doc__ = function.__doc__
    called._refusable = True  # type: ignore[attr-defined]
    return called
