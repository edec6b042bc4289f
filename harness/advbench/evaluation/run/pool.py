"""The worker pool of a run: opens the executor's pool, checks its workers, and reopens it if it breaks."""

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
    """Runs the tasks of a run on an executor's pool.

    Args:
        executor: Opens the pool.
        size: How many tasks run at a time.
        gpus: How many GPUs the workers share, or 0.
        environment: The settings of workers.
        jobs: The jobs; every worker must have the same code for them as this process.
        live: The names of components that only this process has.

    Attributes:
        worker_settings: The ``device`` and the number of ``threads`` with which the workers compute, once the context
            is entered; empty if tasks run in this process.

    It is a context manager that closes the pool at its end, at once if an exception leaves the block. Before and after,
    it removes what killed runs have left in the store. If tasks run in this process and a component has changed it, a
    worker process replaces it.

    Raises:
        UsageError: The pool cannot be opened, or a worker has other code; on entering.
        ContractError: A component has changed this process, and only this process has a component that tasks need.
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
        self.worker_settings: dict[str, str | int] = {}
        self._pool: FuturesExecutor | None = None

    def __enter__(self) -> WorkerPool:
        Store(self.environment.store).remove_leftovers()  # removes what killed runs have left
        self._open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if self._pool is not None and kind is None:
            self._pool.shutdown()
        else:
            self._abandon()
        Store(self.environment.store).remove_leftovers()  # removes what dead workers were writing

    @property
    def in_process(self) -> bool:
        """Whether tasks run in this process."""
        return self.executor.in_process

    def slots(self) -> int:
        """How many tasks can run at a time now."""
        assert self._pool is not None
        return self.executor.slots(self._pool, self.size)

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a module-level function with plain data as arguments."""
        if self.in_process and process_taint():
            self.reopen()
        assert self._pool is not None
        return self._pool.submit(function, *args, **kwargs)

    def reopen(self) -> None:
        """Replaces a broken pool."""
        self._abandon()
        self._open()

    def _open(self) -> None:
        if self.in_process and process_taint():
            if self.live:
                raise ContractError(
                    f"{process_taint()}, so that nothing else is computed in it, and no other process has "
                    f"{self.live[0]!r}: fix that, restart Python and run it again; finished results are kept"
                )
            self.executor = Processes()
        self._pool = self.executor.open(self.size, self.gpus) if self.gpus else self.executor.open(self.size)
        try:
            self.worker_settings = check_workers(self.executor, self._pool, self.environment, self.jobs)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        if self._pool is not None:
            self.executor.abandon(self._pool)
            self._pool = None
