"""How much memory a process may take, and what a lack of it looks like."""

from __future__ import annotations

import contextlib
import gc
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

if sys.platform != "win32":
    import resource

__all__ = ["free_memory", "hold_memory", "is_shortage", "memory_for_each", "memory_held"]

_SHARE = 0.9
_LEAST = 4 * 2**30
_OF_ALLOCATOR = re.compile(r"DefaultCPUAllocator|not enough memory|out of memory|std::bad_alloc", re.IGNORECASE)


def memory_for_each(jobs: int) -> int | None:
    """How many bytes each of several workers may take beside what it takes when it begins.

    Together that is nine tenths of what is free now, except that each has 4 GiB of it. Without such a limit a component
    that allocates without bound takes what all other processes of the machine need.

    Returns:
        None where the system does not say what is free.
    """
    free = _free()
    if free is None:
        return None
    usable = int(_SHARE * free)
    return max(usable // jobs, min(_LEAST, usable))


def hold_memory(more: int) -> None:
    """Lets this process take so many bytes more than now; what asks for yet more is refused."""
    taken = _taken()
    if sys.platform != "win32" and taken is not None:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = taken + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


@contextlib.contextmanager
def memory_held(more: int | None) -> Iterator[None]:
    """Holds this process to so many bytes more than now while the block runs; None changes nothing."""
    if more is None or sys.platform == "win32":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    hold_memory(more)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_shortage(error: BaseException) -> bool:
    """Whether an exception says that memory, of the processor or of a GPU, did not suffice."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _OF_ALLOCATOR.search(str(error)) is not None


def free_memory() -> None:
    """Gives back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _free() -> int | None:
    """Bytes that are free on this machine, or within the limit of the container that this process is in."""
    try:
        told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if told is None:
        return None
    free = int(told[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        free = min(free, most - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # there is no such limit
        pass
    return max(free, 0)


def _taken() -> int | None:
    """Bytes that count towards the limit now."""
    try:
        told = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return None if told is None else int(told[1]) * 1024
