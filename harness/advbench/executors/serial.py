"""The executor that runs one task after another in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future
from typing import Any

from advbench.api import Executor, UsageError
from advbench.option_names import option

__all__ = ["Serial"]


@dataclasses.dataclass(frozen=True)
class Serial(Executor):
    """Runs one task after another in this process."""

    name = "serial"
    in_process = True

    def check(self, jobs: int) -> None:
        """Raises UsageError for more than one task at a time."""
        if jobs != 1:
            raise UsageError(
                f"{option('jobs', jobs)}: the executor 'serial' runs one task at a time; "
                f"use {option('executor', 'processes')}"
            )

    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Opens a pool that consists of this process."""
        del jobs, gpus
        return _InThisProcess()


class _InThisProcess(FuturesExecutor):
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs the task at once; an interruption goes straight to the caller."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
