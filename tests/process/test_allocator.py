from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import resource, torch
from advbench.process.allocator import keep_freed_memory
keep_freed_memory()
for _ in range(20):  # of 64 MiB; where they lie in memory settles after some
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_asked_for(**settings: str) -> int:
    """How many pages ten tensors of 64 MiB take from the system after some have been freed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment | settings, capture_output=True, text=True, check=True
    )
    return int(made.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_large_tensors_reuse_the_memory_of_those_before_them() -> None:
    assert pages_asked_for() < 40_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_who_has_set_the_allocator_keeps_their_setting() -> None:
    assert pages_asked_for(MALLOC_MMAP_MAX_="65536") > 100_000
