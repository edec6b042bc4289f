"""When Python looks for garbage: seldom, not while a command imports torch to run a matrix, nor when it ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["importing", "tune_gc"]

_AT_A_TIME = 50_000
"""So many new objects are looked through at a time: of the millions of a large plan none is garbage."""


def tune_gc() -> None:
    """Makes passes rare for the rest of the process, and spares it those over everything at its end.

    Python looks through all there is when it ends, torch's million objects too, which takes a tenth of a command that
    finds its results in the store. What is written at the end is written as before.
    """
    gc.set_threshold(_AT_A_TIME)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Looks for no garbage while the block imports torch, and never for any among what the imports have made."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
