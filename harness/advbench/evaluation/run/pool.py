"""The crew of a run: the executor's pool, opened, checked, and opened anew when it breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future
from typing import Any

from advbench.api import ContractError, Executor, process_taint
from advbench.evaluation.run.schedule import Job
from advbench.evaluation.run.worker_check import check_workers
from advbench.evaluation.work.workspace import Environment
from advbench.executors.processes import Processes
from advbench.store import Store

__all__ = ["WorkerPool"]


class WorkerPool:
    """Who runs the tasks.

    Args:
        executor: What opens pools.
        size: How many tasks are to run at a time.
        gpus: How many GPUs the workers share, or 0.
        environment: Where and how tasks run.
        jobs: What is to be done, for which every worker must have what this process has.
        live: The names of components that this process alone has.

    Attributes:
        told: On which ``device`` and with how many ``threads`` the workers compute, once it is entered; empty where
            tasks run in this process.

    Used as a context, it closes the pool in the end, at once where an exception leaves the block; before and after, it
    sweeps the store. Where tasks run in this process and a component has changed it, a worker process takes its place.

    Raises:
        UsageError: There can be no such pool, or a worker has other code; when it is entered.
        ContractError: A component has changed this process, and no other has what tasks need.
    """

    def __init__(
        self,
        executor: Executor,
        size: int,
        gpus: int,
        environment: Environment,
        jobs: Iterable[Job],
        *,
        live: Sequence[str] = (),
    ) -> None:
        self.executor = executor
        self.size = size
        self.gpus = gpus
        self.environment = environment
        self.jobs = list(jobs)
        self.live = live
        self.told: dict[str, str | int] = {}
        self._pool: FuturesExecutor | None = None

    def __enter__(self) -> WorkerPool:
        Store(self.environment.store).sweep()  # of what runs that were killed have left
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._pool is not None and kind is None:
            self._pool.shutdown()
        else:
            self._abandon()
        Store(self.environment.store).sweep()  # of what workers that died were in the middle of writing

    @property
    def in_process(self) -> bool:
        """Whether tasks run in this process."""
        return self.executor.in_process

    def slots(self) -> int:
        """How many tasks run at a time now."""
        assert self._pool is not None
        return self.executor.slots(self._pool, self.size)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a module-level function on plain data."""
        if self.in_process and process_taint():
            self.reopen()
        assert self._pool is not None
        return self._pool.submit(function, *args, **kwargs)

    def reopen(self) -> None:
        """Takes another pool for one that is broken."""
        self._abandon()
        self._open()

    def _open(self) -> None:
        if self.in_process and process_taint():
            if self.live:
                raise ContractError(
                    f"{process_taint()}, so that nothing else is computed in it, and {self.live[0]!r} is in no other: "
                    "mend that, start Python anew and run it again; what had ended is kept in the store"
                )
            self.executor = Processes()
        self._pool = self.executor.open(self.size, self.gpus) if self.gpus else self.executor.open(self.size)
        try:
            self.told = check_workers(self.executor, self._pool, self.environment, self.jobs)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        if self._pool is not None:
            self.executor.abandon(self._pool)
            self._pool = None
