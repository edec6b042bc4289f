"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_freed_memory"]

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Options of mallopt(3) with these names."""

_USER_SETTINGS = (
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)


def keep_freed_memory() -> None:
    """Lets the C library keep freed memory for later tensors.

    By default glibc requests every block above 32 MiB from the system and returns it when it is freed, and the system
    clears each page of a new block. A network with activations of that size then runs at half its speed on a CPU.
    Settings of the allocator in the environment take precedence; with other C libraries this function does nothing.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _USER_SETTINGS):
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
