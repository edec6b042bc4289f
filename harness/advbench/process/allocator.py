"""How this process asks the operating system for memory."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_freed_memory"]

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""The options of that name of mallopt(3)."""

_OWN_SETTINGS = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> None:
    """Lets the C library keep what tensors free, for the next ones.

    By default glibc takes every block above 32 MiB from the system anew and gives it back at once, and the system
    clears each of its pages: a network whose activations are that large then runs at half its speed on a processor.
    Whoever has set the allocator by the environment keeps that; with other C libraries nothing happens.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OWN_SETTINGS):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
