"""The executor that runs tasks in worker processes of this machine."""

from __future__ import annotations

import dataclasses
import multiprocessing
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import ProcessPoolExecutor

from advbench.api import Executor

__all__ = ["Processes"]


@dataclasses.dataclass(frozen=True)
class Processes(Executor):
    """Runs tasks in worker processes of this machine; the default for ``--jobs`` above 1."""

    name = "processes"

    def open(self, jobs: int) -> FuturesExecutor:
        """Opens a pool of fresh processes: a forked one would inherit torch's threads in an unknown state."""
        return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
