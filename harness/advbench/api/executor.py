"""The contract of executors, which run the tasks of a matrix in this process, in others or on a cluster."""

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
    """What a component has changed in this process, in words; empty if nothing.

    A process that a component has changed must not compute anything else. An executor should check this after each
    task, and replace a changed process once it has the task's result. Otherwise, the worker refuses all further tasks.
    """
    return _taint


def taint_process(reason: str) -> None:
    """Records that this process must not compute anything else; the first reason is kept."""
    global _taint  # noqa: PLW0603  the process itself is tainted
    _taint = _taint or reason


class WorkerLostError(Exception):
    """The exception in the future of a task whose worker died; the pool continues with other workers.

    Args:
        message: How the worker died.
        killed: Whether another process killed it.
        final: Whether the pool has already retried the task on other workers, so that the caller should not retry it.
    """

    def __init__(self, message: str, *, killed: bool = False, final: bool = False) -> None:
        super().__init__(message)
        self.killed = killed
        self.final = final


@dataclasses.dataclass(frozen=True)
class Executor(Component):
    """Opens a pool that runs the tasks of a matrix.

    A task is a module-level function whose arguments and result are plain data. Workers load plugins
    themselves and write to the store. A worker runs one task at a time.

    Attributes:
        in_process: Whether tasks run in this process, so that a task cannot be stopped on its own.
    """

    in_process: ClassVar[bool] = False

    def check(self, jobs: int) -> None:
        """Checks that the executor can run this many tasks at a time; called before any work.

        Raises:
            UsageError: It cannot.
        """
        del jobs

    @abstractmethod
    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Opens a pool for this many tasks at a time; the harness shuts it down.

        Args:
            jobs: Number of tasks at a time.
            gpus: Number of GPUs that the workers share; each worker must see one of them as its only device. 0 if
                tasks need no GPU, or specify which one they use.

        Raises:
            UsageError: The pool cannot be opened, for example because the scheduler is not reachable.
        """

    def slots(self, pool: FuturesExecutor, jobs: int) -> int:
        """How many tasks the pool can run at a time now. For the pool of a cluster this may change."""
        del pool
        return jobs

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a module-level function in every worker of the pool.

        Returns:
            The results by the worker's name; empty if this process is the only worker.
        """
        del pool, function, args
        return {}

    def abandon(self, pool: FuturesExecutor) -> None:
        """Cancels all work of the pool, for example when the user interrupts. Must not wait for running tasks."""
        pool.shutdown(wait=False, cancel_futures=True)
