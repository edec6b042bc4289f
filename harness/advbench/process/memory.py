"""Memory limits of processes, and errors that mean out of memory."""

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

__all__ = ["available_memory", "free_memory", "is_out_of_memory", "limit_memory", "memory_limit", "memory_per_worker"]

_USABLE_SHARE = 0.9
_MINIMUM = 4 * 2**30
_ALLOCATOR_ERROR = re.compile(r"DefaultCPUAllocator|not enough memory|out of memory|std::bad_alloc", re.IGNORECASE)


def memory_per_worker(jobs: int) -> int | None:
    """How many bytes each of several workers may allocate after its start.

    Together that is nine tenths of the free memory, but at least 4 GiB for each worker if so much is free. Without a
    limit, a component that allocates without bound takes the memory of all other processes of the machine.

    Returns:
        The number of bytes; None if the system does not report free memory.
    """
    free = _free_bytes()
    if free is None:
        return None
    usable = int(_USABLE_SHARE * free)
    return max(usable // jobs, min(_MINIMUM, usable))


def available_memory(device: torch.device) -> int | None:
    """How many bytes this process can still allocate on a device; None if that is unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = _free_bytes() if device.type == "cpu" else None
    used = _used_bytes()
    if free is None or used is None or sys.platform == "win32":
        return free
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return free if limit == resource.RLIM_INFINITY else max(0, min(free, limit - used))


def limit_memory(extra: int) -> None:
    """Limits this process to so many bytes more than now; allocations beyond that fail."""
    if extra < _MINIMUM:
        _load_autograd()
    used = _used_bytes()
    if sys.platform != "win32" and used is not None:
        _, maximum = resource.getrlimit(resource.RLIMIT_DATA)
        limit = used + extra
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit if maximum == resource.RLIM_INFINITY else min(limit, maximum), maximum)
        )


def _load_autograd() -> None:
    """Lets torch import what it imports at the first gradient, and start its threads, which may take more than a limit.

    An import that fails for lack of memory leaves half a module behind and may end the process.
    """
    images = torch.ones(1, 1, 8, 8, requires_grad=True)
    outputs = torch.nn.functional.conv2d(images, torch.ones(1, 1, 3, 3))
    torch.autograd.grad(outputs, images, torch.ones_like(outputs))


@contextlib.contextmanager
def memory_limit(extra: int | None) -> Iterator[None]:
    """Limits this process to so many bytes more than now while the block runs; None sets no limit."""
    if extra is None or sys.platform == "win32":
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit_memory(extra)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that the memory of the machine or of a GPU ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATOR_ERROR.search(str(error)) is not None


def free_memory() -> None:
    """Frees unreferenced objects, and the memory that torch caches on GPUs."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _free_bytes() -> int | None:
    """The free memory of this machine, or within the limit of the container of this process."""
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if match is None:
        return None
    free = int(match[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        maximum = int((group / "memory.max").read_text())
        free = min(free, maximum - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # there is no such limit
        pass
    return max(free, 0)


def _used_bytes() -> int | None:
    """The memory of this process that counts towards the limit."""
    try:
        match = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return None if match is None else int(match[1]) * 1024
