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
from advbench.executors.dask_here import ClusterHere
from advbench.process.exits import end_process

__all__ = ["Dask"]

_ANSWERS_IN = 10
"""Seconds in which a scheduler has to answer."""

_PATIENCE = 60.0
"""Seconds to wait for a scheduler's first worker."""

_PATIENCE_FOR_GPU = 10.0
"""Seconds to wait for a worker with a GPU, where there are workers without."""

_PATIENCE_FOR_NEXT = 300.0
"""Seconds to wait for another worker where all have gone."""

_COUNTED_FOR = 2.0
"""Seconds for which a count of the workers holds."""

_ENDS_AFTER = 0.2
"""Seconds after which a worker ends that has been asked to."""

_ASKS = 3
"""How often workers are asked that do not answer; those that have left are not missed."""

_log = logging.getLogger("advbench.executors")


@dataclasses.dataclass(frozen=True)
class Dask(Executor):
    """Runs tasks on the workers of a Dask scheduler, or of a cluster on this machine; needs ``advbench[dask]``."""

    name = "dask"
    source = "https://distributed.dask.org"

    scheduler: str = param("", help="address of the scheduler, such as tcp://host:8786; none for a cluster made here")

    def check(self, jobs: int) -> None:
        """Raises UsageError where Dask is not installed."""
        del jobs
        if find_spec("distributed") is None:
            raise UsageError("the executor 'dask' needs Dask; install it with: pip install 'advbench[dask]'")

    def open(self, jobs: int, gpus: int = 0) -> FuturesExecutor:
        """Connects to the scheduler, or starts one with this many workers.

        Raises:
            UsageError: No scheduler answers at the address, or it has no workers, or no such as tasks need.
        """
        if not self.scheduler:
            return ClusterHere(jobs, gpus)
        pool = _Pool(_connected(self.scheduler), self.scheduler, gpu=gpus > 0)
        if not pool.comes(_PATIENCE_FOR_GPU):
            pool.leave(at_once=True)
            raise UsageError(
                f"--scheduler {self.scheduler}: none of its workers offers a GPU; start them with 'dask worker "
                f'{self.scheduler} --resources "GPU=1"\', or give --device cpu'
            )
        return pool

    def slots(self, pool: FuturesExecutor, jobs: int) -> int:
        """How many workers there are now: each runs one task at a time, with all of its threads."""
        return pool.count() if isinstance(pool, _Pool) else jobs

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a function in every worker that may get a task."""
        assert isinstance(pool, (_Pool, ClusterHere))
        return pool.everywhere(function, *args)

    def abandon(self, pool: FuturesExecutor) -> None:
        """Cancels what waits and leaves the cluster; one that was made here ends with all that it does."""
        if isinstance(pool, _Pool):
            pool.leave(at_once=True)
        elif isinstance(pool, ClusterHere):
            pool.abandon()


class _Pool(FuturesExecutor):
    """The workers of somebody's cluster: tasks as Dask's futures, and these as those of :mod:`concurrent.futures`.

    Args:
        client: Dask's.
        scheduler: Its address, for messages.
        gpu: Whether each task needs a worker with a GPU.
    """

    def __init__(self, client: Any, scheduler: str, *, gpu: bool) -> None:
        self.client = client
        self._scheduler = scheduler
        self._gpu = gpu
        self._executor = client.get_executor(pure=False, retries=0, **({"resources": {"GPU": 1}} if gpu else {}))
        self._counted = (0, 0.0)
        self._waited_for: set[Future[Any]] = set()
        self._left = threading.Event()
        threading.Thread(target=self._watch, name="workers of the cluster", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a task on the next worker that is free."""
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        self._waited_for.add(outer)
        outer.add_done_callback(self._waited_for.discard)
        inner = self._executor.submit(_with_its_threads, fn, *args, **kwargs)
        inner.add_done_callback(partial(_pass_on, outer, self._replace))
        return outer

    def _replace(self, address: str) -> None:
        """Ends a worker that a component has changed: its nanny starts another."""
        with contextlib.suppress(Exception):  # it has gone already
            self.client.run(_end_process, workers=[address], wait=False, on_error="ignore")

    def everywhere(self, fn: Callable[..., Any], /, *args: Any) -> dict[str, Any]:
        """Runs a function in every worker that may get a task, and waits for all but those that leave meanwhile."""
        found: dict[str, Any] = {}
        for tries_left in reversed(range(_ASKS)):
            left = [address for address in self._workers() if address not in found]
            told = self.client.run(_told_its_threads, fn, args, workers=left, on_error="return") if left else {}
            lost = [address for address, answer in told.items() if isinstance(answer, OSError) and tries_left]
            found |= {address: answer for address, answer in told.items() if address not in lost}
            if not lost:
                break
            time.sleep(_COUNTED_FOR)
        return found

    def comes(self, seconds: float) -> bool:
        """Whether there is a worker that may get a task, or comes within this time."""
        until = time.monotonic() + seconds
        while not (there := bool(self._workers())) and time.monotonic() < until:
            time.sleep(0.2)
        return there

    def count(self) -> int:
        """How many workers there are; at least one, so that tasks wait for the next where all have gone."""
        count, at = self._counted
        if time.monotonic() - at > _COUNTED_FOR:
            count = max(1, len(self._workers()))
            self._counted = count, time.monotonic()
        return count

    def leave(self, *, at_once: bool = False) -> None:
        """Leaves the cluster."""
        self._left.set()
        with contextlib.suppress(Exception):  # it may be gone already
            self._executor.shutdown(wait=not at_once)
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster once all is done."""
        self.leave(at_once=not wait or cancel_futures)

    def _workers(self) -> list[str]:
        """Addresses of the workers that may get a task."""
        # The client's own scheduler_info() gives what its periodic call, which asks for no workers, may just have left.
        known = self.client.sync(self.client.scheduler.identity)["workers"]
        return [address for address, worker in known.items() if not self._gpu or worker["resources"].get("GPU", 0) >= 1]

    def _watch(self) -> None:
        """Sees to it that tasks do not wait for ever where all workers have gone."""
        gone, told = 0.0, False  # since when
        while not self._left.wait(_COUNTED_FOR):
            try:
                there = bool(self._workers())
            except Exception:  # the scheduler's: the tasks tell
                there = True
            now = time.monotonic()
            if there or not self._waited_for:
                gone, told = 0.0, False
                continue
            gone = gone or now
            if now - gone > _PATIENCE_FOR_NEXT:
                self._give_up()
            elif now - gone > _PATIENCE_FOR_NEXT / 10 and not told:
                told = True
                _log.warning(
                    "no worker is left at %s; waiting %.0f s for others: dask worker %s",
                    *(self._scheduler, _PATIENCE_FOR_NEXT, self._scheduler),
                )

    def _give_up(self) -> None:
        error = UsageError(
            f"--scheduler {self._scheduler}: all workers have gone, and none has come in {_PATIENCE_FOR_NEXT:.0f} s; "
            f"start some with 'dask worker {self._scheduler}', and run the command again, which goes on from here"
        )
        for outer in list(self._waited_for):
            with contextlib.suppress(InvalidStateError):
                outer.set_exception(error)


def _connected(address: str) -> Any:
    """A client of a scheduler that has at least one worker."""
    distributed = import_module("distributed")
    try:
        asyncio.run(_reach(address))  # first: a client that finds nobody tells of it again when it is thrown away
        client = distributed.Client(address, timeout=_ANSWERS_IN, set_as_default=False)
    except Exception as error:  # what an address may be, and raise, depends on the protocols that there are
        reason = " ".join(str(error).split()) or "it does not answer"
        raise UsageError(
            f"--scheduler {address}: {reason}; start one with 'dask scheduler', and give the address that it prints"
        ) from error
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
    except TimeoutError as error:
        client.close()
        raise UsageError(
            f"--scheduler {address}: no worker has come in {_PATIENCE:.0f} s; start some with 'dask worker {address}'"
        ) from error
    return client


async def _reach(address: str) -> None:
    """Greets the scheduler; raises what stands in the way."""
    distributed, comm = import_module("distributed"), import_module("distributed.comm")
    security = distributed.Security().get_connection_args("client")
    greeting = await asyncio.wait_for(comm.connect(address, timeout=_ANSWERS_IN, **security), _ANSWERS_IN + 1)
    await greeting.close()


def _with_its_threads(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, str]:
    """Runs in a worker, whose threads are there for the one task that it runs at a time.

    Returns:
        What the function returned, and the address of the worker where a component has changed it.
    """
    address = ""
    with contextlib.suppress(ValueError):  # there is no worker, as in a test
        worker = import_module("distributed").get_worker()
        torch.set_num_threads(max(1, worker.state.nthreads))
        address = worker.address
    result = function(*args, **kwargs)
    return result, address if process_taint() else ""


def _end_process() -> None:
    """Ends a worker's process once it has answered; without notice to its nanny, which would not start another."""
    threading.Timer(_ENDS_AFTER, end_process, (1,)).start()


def _told_its_threads(function: Callable[..., Any], args: tuple[Any, ...], dask_worker: Any = None) -> Any:
    """What a function returns in a worker, with as many threads as its tasks have; Dask gives the worker."""
    torch.set_num_threads(max(1, dask_worker.state.nthreads))
    return function(*args)


def _pass_on(outer: Future[Any], replace: Callable[[str], None], inner: Future[Any]) -> None:
    """Gives what a task came to to the future that the driver waits for, and has a worker replaced that was changed."""
    with contextlib.suppress(InvalidStateError):  # it was given up
        error = BrokenExecutor("the Dask scheduler has gone") if inner.cancelled() else inner.exception()
        if error is None:
            result, tainted = inner.result()
            if tainted:
                replace(tainted)
            outer.set_result(result)
        else:
            outer.set_exception(_told_of(error))


def _told_of(error: BaseException) -> BaseException:
    """What the driver is told of what a task came to."""
    if isinstance(error, import_module("distributed").KilledWorker):
        workers = error.allowed_failures + 1
        return WorkerLostError(f"Dask gave up after {workers} of them", final=workers > 1)
    if type(error).__name__ in ("CommClosedError", "FutureCancelledError", "CancelledError"):
        return BrokenExecutor(f"the Dask scheduler has gone: {error}")
    return error
