"""The executor that runs tasks on the workers of a Dask cluster, on this machine or on many."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from concurrent.futures import Executor as FuturesExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from advbench.api import Executor, UsageError, WorkerLostError, param, process_taint
from advbench.executors.dask_local import LocalDaskPool
from advbench.option_names import option
from advbench.process.exits import end_process

__all__ = ["Dask"]

_CONNECT_TIMEOUT = 10
"""Seconds to wait for a scheduler to answer."""

_WORKER_TIMEOUT = 60.0
"""Seconds to wait for a scheduler's first worker."""

_GPU_WORKER_TIMEOUT = 10.0
"""Seconds to wait for a worker with a GPU, if there are workers without one."""

_NEXT_WORKER_TIMEOUT = 300.0
"""Seconds to wait for another worker after all have left."""

_COUNT_INTERVAL = 2.0
"""Seconds between counts of the workers."""

_EXIT_DELAY = 0.2
"""Seconds between the request to end a worker and its end."""

_ATTEMPTS = 3
"""How often a function is sent to workers that do not answer; workers that have left do not count."""

_log = logging.getLogger("advbench.executors")


@dataclasses.dataclass(frozen=True)
class Dask(Executor):
    """Runs tasks on the workers of a Dask scheduler, or of a cluster on this machine; needs ``advbench[dask]``."""

    name = "dask"
    source = "https://distributed.dask.org"

    scheduler: str = param(
        "", help="address of the scheduler, such as tcp://host:8786; empty for a cluster on this machine"
    )

    def check(self, jobs: int) -> None:
        """Raises UsageError if Dask is not installed."""
        del jobs
        if find_spec("distributed") is None:
            raise UsageError("the executor 'dask' needs Dask; install it with: pip install 'advbench[dask]'")

    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Connects to the scheduler, or starts one with this many workers.

        Raises:
            UsageError: No scheduler answers at the address, or it has no workers, or none with a GPU if tasks need one.
        """
        if not self.scheduler:
            return LocalDaskPool(jobs, gpus)
        pool = _Pool(_connect(self.scheduler), self.scheduler, gpu=gpus > 0)
        if not pool.wait_for_worker(_GPU_WORKER_TIMEOUT):
            pool.leave(wait=False)
            raise UsageError(
                f"{option('scheduler', self.scheduler)}: none of its workers offers a GPU; start them with "
                f"'dask worker {self.scheduler} --resources \"GPU=1\"', or give {option('device', 'cpu')}"
            )
        return pool

    def slots(self, pool: FuturesExecutor, jobs: int) -> int:
        """The number of workers now: each runs one task at a time, with all of its threads."""
        return pool.count() if isinstance(pool, _Pool) else jobs

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a function in every worker that may get a task."""
        assert isinstance(pool, (_Pool, LocalDaskPool))
        return pool.everywhere(function, *args)

    def abandon(self, pool: FuturesExecutor) -> None:
        """Cancels waiting tasks and leaves the cluster; a cluster on this machine is ended."""
        if isinstance(pool, _Pool):
            pool.leave(wait=False)
        elif isinstance(pool, LocalDaskPool):
            pool.abandon()


class _Pool(FuturesExecutor):
    """The workers of a cluster, as a pool of :mod:`concurrent.futures`.

    Args:
        client: The client of Dask.
        scheduler: The address of the scheduler, for messages.
        gpu: Whether each task needs a worker with a GPU.
    """

    def __init__(self, client: Any, scheduler: str, *, gpu: bool) -> None:
        self.client = client
        self._scheduler = scheduler
        self._gpu = gpu
        self._executor = client.get_executor(pure=False, retries=0, **({"resources": {"GPU": 1}} if gpu else {}))
        self._count = (0, 0.0)
        self._pending: set[Future[Any]] = set()
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="workers of the cluster", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a task on the next free worker."""
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        self._pending.add(outer)
        outer.add_done_callback(self._pending.discard)
        inner = self._executor.submit(_run_with_worker_threads, fn, *args, **kwargs)
        inner.add_done_callback(partial(_copy_result, outer, self._replace))
        return outer

    def _replace(self, address: str) -> None:
        """Ends a worker that a component has changed; its nanny starts another."""
        with contextlib.suppress(Exception):  # the worker has left already
            self.client.run(_end_process, workers=[address], wait=False, on_error="ignore")

    def everywhere(self, fn: Callable[..., Any], /, *args: Any) -> dict[str, Any]:
        """Runs a function in every worker that may get a task, and waits for all except those that leave meanwhile."""
        results: dict[str, Any] = {}
        for attempts_left in reversed(range(_ATTEMPTS)):
            pending = [address for address in self._workers() if address not in results]
            if not pending:
                break
            new = self.client.run(_call_with_worker_threads, fn, args, workers=pending, on_error="return")
            lost = [address for address, result in new.items() if isinstance(result, OSError) and attempts_left]
            results |= {address: result for address, result in new.items() if address not in lost}
            if not lost:
                break
            time.sleep(_COUNT_INTERVAL)
        return results

    def wait_for_worker(self, seconds: float) -> bool:
        """Whether there is a worker that may get a task within this time."""
        deadline = time.monotonic() + seconds
        while not (found := bool(self._workers())) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def count(self) -> int:
        """The number of workers; at least one, so that tasks wait for the next one if all have left."""
        count, at = self._count
        if time.monotonic() - at > _COUNT_INTERVAL:
            count = max(1, len(self._workers()))
            self._count = count, time.monotonic()
        return count

    def leave(self, *, wait: bool = True) -> None:
        """Leaves the cluster."""
        self._left.set()
        with contextlib.suppress(Exception):  # it may have ended already
            self._executor.shutdown(wait=wait)
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster when all tasks are done."""
        self.leave(wait=wait and not cancel_futures)

    def _workers(self) -> list[str]:
        """Addresses of the workers that may get a task."""
        # Not client.scheduler_info(): its periodic update leaves the workers out.
        info = self.client.sync(self.client.scheduler.identity)["workers"]
        return [address for address, worker in info.items() if not self._gpu or worker["resources"].get("GPU", 0) >= 1]

    def _watch(self) -> None:
        """Fails the tasks if all workers have left and none comes, so that they do not wait for ever."""
        gone_since, warned = 0.0, False
        while not self._left.wait(_COUNT_INTERVAL):
            try:
                has_workers = bool(self._workers())
            except Exception:  # of the scheduler, which the tasks report
                has_workers = True
            now = time.monotonic()
            if has_workers or not self._pending:
                gone_since, warned = 0.0, False
                continue
            gone_since = gone_since or now
            if now - gone_since > _NEXT_WORKER_TIMEOUT:
                self._fail_pending()
            elif now - gone_since > _NEXT_WORKER_TIMEOUT / 10 and not warned:
                warned = True
                _log.warning(
                    "no worker is left at %s; waiting %.0f s for others: dask worker %s",
                    *(self._scheduler, _NEXT_WORKER_TIMEOUT, self._scheduler),
                )

    def _fail_pending(self) -> None:
        error = UsageError(
            f"scheduler {self._scheduler}: all workers have left, and none has come in {_NEXT_WORKER_TIMEOUT:.0f} s; "
            f"start some with 'dask worker {self._scheduler}', and run the command again, which continues from here"
        )
        for outer in list(self._pending):
            with contextlib.suppress(InvalidStateError):
                outer.set_exception(error)


def _connect(address: str) -> Any:
    """A client of a scheduler that has at least one worker."""
    distributed = import_module("distributed")
    try:
        asyncio.run(_reach(address))  # first, since a client that cannot connect reports it again when it is deleted
        client = distributed.Client(address, timeout=_CONNECT_TIMEOUT, set_as_default=False)
    except Exception as error:  # the exceptions depend on the protocol of the address
        reason = " ".join(str(error).split()) or "it does not answer"
        raise UsageError(
            f"{option('scheduler', address)}: {reason}; start one with 'dask scheduler', and give the address "
            "that it prints"
        ) from error
    try:
        client.wait_for_workers(1, timeout=_WORKER_TIMEOUT)
    except TimeoutError as error:
        client.close()
        raise UsageError(
            f"{option('scheduler', address)}: no worker has come in {_WORKER_TIMEOUT:.0f} s; start some with "
            f"'dask worker {address}'"
        ) from error
    return client


async def _reach(address: str) -> None:
    """Connects to the scheduler once; raises the error if that fails."""
    distributed, comm = import_module("distributed"), import_module("distributed.comm")
    security = distributed.Security().get_connection_args("client")
    connection = await asyncio.wait_for(
        comm.connect(address, timeout=_CONNECT_TIMEOUT, **security), _CONNECT_TIMEOUT + 1
    )
    await connection.close()


def _run_with_worker_threads(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, str]:
    """Runs a task in a worker with all threads of the worker, which runs one task at a time.

    Returns:
        The result of the function, and the address of the worker if a component has changed it.
    """
    address = ""
    with contextlib.suppress(ValueError):  # not in a worker, as in a test
        worker = import_module("distributed").get_worker()
        torch.set_num_threads(max(1, worker.state.nthreads))
        address = worker.address
    result = function(*args, **kwargs)
    return result, address if process_taint() else ""


def _end_process() -> None:
    """Ends a worker's process after it has answered; its nanny, which is not notified, starts another."""
    threading.Timer(_EXIT_DELAY, end_process, (1,)).start()


def _call_with_worker_threads(function: Callable[..., Any], args: tuple[Any, ...], dask_worker: Any = None) -> Any:
    """Calls a function in a worker with as many threads as its tasks have; Dask passes the worker."""
    torch.set_num_threads(max(1, dask_worker.state.nthreads))
    return function(*args)


def _copy_result(outer: Future[Any], replace: Callable[[str], None], inner: Future[Any]) -> None:
    """Copies the result of a task to the future that the driver waits for, and replaces a changed worker."""
    with contextlib.suppress(InvalidStateError):  # it has failed before
        error = BrokenExecutor("the Dask scheduler has gone") if inner.cancelled() else inner.exception()
        if error is None:
            result, tainted = inner.result()
            if tainted:
                replace(tainted)
            outer.set_result(result)
        else:
            outer.set_exception(_driver_error(error))


def _driver_error(error: BaseException) -> BaseException:
    """Turns an exception of Dask into one that the driver understands."""
    if isinstance(error, import_module("distributed").KilledWorker):
        workers = error.allowed_failures + 1
        return WorkerLostError(f"Dask gave up after {workers} of them", final=workers > 1)
    if type(error).__name__ in ("CommClosedError", "FutureCancelledError", "CancelledError"):
        return BrokenExecutor(f"the Dask scheduler has gone: {error}")
    return error
