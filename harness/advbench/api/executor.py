"""The contract of executors: where and how many at a time the tasks of a matrix run."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from concurrent.futures import Executor as FuturesExecutor

from advbench.api.component import Component

__all__ = ["Executor"]


@dataclasses.dataclass(frozen=True)
class Executor(Component):
    """Opens a pool that runs the tasks of a matrix.

    A task is a module-level function with plain data in and plain data out; workers load plugins
    themselves and write to the store.
    """

    def check(self, jobs: int) -> None:
        """Raises UsageError when it cannot run so many tasks at a time; called before any work."""
        del jobs

    @abstractmethod
    def open(self, jobs: int) -> FuturesExecutor:
        """Opens a pool for this many tasks at a time; the harness shuts it down."""

    def abandon(self, pool: FuturesExecutor) -> None:
        """Gives up what the pool is doing, as when the user interrupts; must not wait for running tasks."""
        pool.shutdown(wait=False, cancel_futures=True)
