"""Makes garbage collection rare: few passes, none while torch is imported, and none at exit."""

from __future__ import annotations

import atexit
import contextlib
import gc
import sys
from collections.abc import Iterator

__all__ = ["gc_paused", "tune_gc"]

_THRESHOLD = 50_000
"""A pass starts after so many new objects: of the millions of objects of a large plan none is garbage."""


def tune_gc() -> None:
    """Makes garbage collection rare for the rest of the process, and skips the full passes at its exit.

    At exit Python visits all objects, including a million objects of torch. That takes a tenth of the time of a command
    that finds its results in the store. Files are still written at exit as before.
    """
    gc.set_threshold(_THRESHOLD)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Pauses garbage collection while the block imports torch, and excludes the imported objects from later passes."""
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
