"""The executor that runs tasks in worker processes of this machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import Executor as FuturesExecutor
from typing import Any

from advbench.api import Executor
from advbench.executors.workers import ProcessPool

__all__ = ["Processes"]


@dataclasses.dataclass(frozen=True)
class Processes(Executor):
    """Runs tasks in worker processes of this machine; the default for ``--jobs`` above 1."""

    name = "processes"

    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Opens a pool of spawned processes: forked ones would inherit torch's threads in an unknown state."""
        return ProcessPool(jobs, gpus)

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a function in every worker."""
        assert isinstance(pool, ProcessPool)
        return pool.everywhere(function, *args)

    def abandon(self, pool: FuturesExecutor) -> None:
        """Kills the workers; entries of the store are complete or absent."""
        assert isinstance(pool, ProcessPool)
        pool.abandon()
