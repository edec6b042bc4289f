"""Runs ``advbench`` in a process of its own and measures it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Command", "advbench"]


@dataclass(frozen=True)
class Command:
    """The resources that a command took.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time of its threads and child processes.
        peak_mib: Peak resident memory in MiB.
        output: Its standard output.
    """

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


_CHILD = """
import resource, sys
from advbench.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as ended:  # --help
    code = ended.code
try:  # of this program alone; what getrusage tells begins with the memory of the process that started it
    with open("/proc/self/status") as file:
        status = file.read().split()
    peak = int(status[status.index("VmHWM:") + 1])
except (OSError, ValueError):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(f"\\npeak {peak}")
sys.exit(code)
"""


def advbench(words: Sequence[object], **environment: str) -> Command:
    """Runs ``advbench`` with these arguments.

    Raises:
        RuntimeError: It failed.
    """
    before, start_time = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    completed = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, words)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    seconds, after = time.perf_counter() - start_time, resource.getrusage(resource.RUSAGE_CHILDREN)
    output, _, peak = completed.stdout.rpartition("\npeak ")
    if completed.returncode or not peak:
        raise RuntimeError(
            f"advbench {' '.join(map(str, words))} ended with {completed.returncode}:\n{completed.stderr}"
        )
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    return Command(seconds, cpu, int(peak) / 1024, output)
