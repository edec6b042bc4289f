"""The contract of executors: where and how many at a time the tasks of a matrix run."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from typing import Any, ClassVar

from advbench.api.component import Component

__all__ = ["Executor", "WorkerLostError", "process_taint", "taint_process"]

_taint = ""


def process_taint() -> str:
    """What a component has changed for this whole process; empty where none has.

    A worker process that is tainted computes nothing else. An executor looks after each task and takes a fresh process
    in its place, once it has what the task returned; where it does not, the worker puts off all further tasks.
    """
    return _taint


def taint_process(reason: str) -> None:
    """QueryLog that this process must not compute anything else; the first reason stays."""
    global _taint  # noqa: PLW0603  it is a matter of the process
    _taint = _taint or reason


class WorkerLostError(Exception):
    """What the future of a task holds whose worker died; the pool goes on with other workers.

    Args:
        message: How it died.
        killed: Whether another process killed it.
        final: Whether the pool has tried other workers itself, and there is no use in trying yet another.
    """

    def __init__(self, message: str, *, killed: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.killed = killed
        self.final = final


@dataclasses.dataclass(frozen=True)
class Executor(Component):
    """Opens a pool that runs the tasks of a matrix.

    A task is a module-level function with plain data in and plain data out; workers load plugins
    themselves and write to the store. A worker runs one task at a time.

    Attributes:
        in_process: Whether tasks run in this process, so that none can be ended but with it.
    """

    in_process: ClassVar[bool] = False

    def check(self, jobs: int) -> None:
        """Raises UsageError when it cannot run so many tasks at a time; called before any work."""
        del jobs

    @abstractmethod
    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Opens a pool for this many tasks at a time; the harness shuts it down.

        Args:
            jobs: How many tasks.
            gpus: How many GPUs the workers share; each is to see one of them, as its only device. 0 where tasks
                need none, or are told which to use.

        Raises:
            UsageError: There can be no such pool, such as of a scheduler that is not there.
        """

    def slots(self, pool: FuturesExecutor, jobs: int) -> int:
        """How many tasks the pool runs at a time now; of the pool of a cluster that may change."""
        del pool
        return jobs

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a module-level function in every worker of the pool; what each returns, by the worker's name.

        Empty where there are no workers but this process.
        """
        del pool, function, args
        return {}

    def abandon(self, pool: FuturesExecutor) -> None:
        """Gives up what the pool is doing, as when the user interrupts; must not wait for running tasks."""
        pool.shutdown(wait=False, cancel_futures=True)
