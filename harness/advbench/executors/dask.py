"""The executor that runs tasks on the workers of a Dask cluster, on this machine or on many."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future
from concurrent.futures import Executor as FuturesExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from advbench.api import Executor, UsageError, WorkerLostError, param

__all__ = ["Dask"]

_ANSWERS_IN = 10
"""Seconds in which a scheduler has to answer."""

_PATIENCE = 60.0
"""Seconds to wait for a scheduler's first worker."""

_PATIENCE_FOR_GPU = 10.0
"""Seconds to wait for a worker with a GPU, where there are workers without."""

_COUNTED_FOR = 2.0
"""Seconds for which a count of the workers holds."""


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
            return _Pool(_local(jobs, gpus), gpu=gpus > 0, threads_of_dask=False)
        pool = _Pool(_connected(self.scheduler), gpu=gpus > 0, threads_of_dask=True)
        if not pool.comes(_PATIENCE_FOR_GPU):
            pool.leave(at_once=True)
            raise UsageError(
                f"--scheduler {self.scheduler}: none of its workers offers a GPU; start them with 'dask worker "
                f'{self.scheduler} --resources "GPU=1"\', or give --device cpu'
            )
        return pool

    def slots(self, pool: FuturesExecutor, jobs: int) -> int:
        """How many workers there are now: each runs one task at a time, with all of its threads."""
        del jobs
        assert isinstance(pool, _Pool)
        return pool.count()

    def everywhere(self, pool: FuturesExecutor, function: Callable[..., Any], *args: Any) -> Mapping[str, Any]:
        """Calls a function in every worker that may get a task."""
        assert isinstance(pool, _Pool)
        return pool.everywhere(function, *args)

    def abandon(self, pool: FuturesExecutor) -> None:
        """Cancels what waits and leaves the cluster; one that was made here ends with all that it does."""
        assert isinstance(pool, _Pool)
        pool.leave(at_once=True)


class _Pool(FuturesExecutor):
    """Tasks as Dask's futures, and these as those of :mod:`concurrent.futures`.

    Args:
        client: Dask's.
        gpu: Whether each task needs a worker with a GPU.
        threads_of_dask: Whether a worker's threads, in Dask's sense, are the CPU threads of its tasks.
    """

    def __init__(self, client: Any, *, gpu: bool, threads_of_dask: bool) -> None:
        self.client = client
        self._gpu = gpu
        self._threads_of_dask = threads_of_dask
        self._first = (_with_its_threads,) if threads_of_dask else ()
        self._executor = client.get_executor(pure=False, retries=0, **({"resources": {"GPU": 1}} if gpu else {}))
        self._counted = (0, 0.0)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a task on the next worker that is free."""
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        inner = self._executor.submit(*self._first, fn, *args, **kwargs)
        inner.add_done_callback(partial(_pass_on, outer))
        return outer

    def everywhere(self, fn: Callable[..., Any], /, *args: Any) -> dict[str, Any]:
        """Runs a function in every worker that may get a task, and waits for all."""
        call = (_told_its_threads if self._threads_of_dask else _told, fn, args)
        found: dict[str, Any] = self.client.run(*call, workers=self._workers(), on_error="return")
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

    def _workers(self) -> list[str]:
        """Addresses of the workers that may get a task."""
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        return [address for address, worker in known.items() if not self._gpu or worker["resources"].get("GPU", 0) >= 1]

    def leave(self, *, at_once: bool = False) -> None:
        """Leaves the cluster, and ends one that was made here."""
        cluster = self.client.cluster
        with contextlib.suppress(Exception):  # it may be gone already
            self._executor.shutdown(wait=not at_once)
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)
        if cluster is not None:
            with contextlib.suppress(Exception):
                cluster.close(timeout=10)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster once all is done."""
        self.leave(at_once=not wait or cancel_futures)


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


def _local(jobs: int, gpus: int) -> Any:
    """A client of a cluster on this machine; with GPUs, a worker for each, which sees that alone."""
    dask, distributed = import_module("dask"), import_module("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": 0,  # the driver gives a task whose worker died to another
        "distributed.nanny.pre-spawn-environ": {},  # which would leave each worker one thread
    }
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = seen.split(",") if seen else [str(number) for number in range(gpus)]
    options: list[dict[str, Any]] = [{}] * jobs
    if gpus:
        options = [{"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": device}} for device in devices[:gpus]]
    workers = {
        number: {
            "cls": distributed.Nanny,
            "options": {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL, **more},
        }
        for number, more in enumerate(options)
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"dashboard": False, "host": "127.0.0.1"}}
    with dask.config.set(settings), _deaf_to_ctrl_c():
        cluster = distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs="CRITICAL")
    return distributed.Client(cluster, set_as_default=False)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Lets processes that are started in the block not hear Ctrl-C, which reaches them with this one: it ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _with_its_threads(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs in a worker of somebody's cluster: its threads are there for the one task that it runs at a time."""
    with contextlib.suppress(ValueError):  # there is no worker, as in a test
        torch.set_num_threads(max(1, import_module("distributed").get_worker().state.nthreads))
    return function(*args, **kwargs)


def _told(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """What a function returns in a worker."""
    return function(*args)


def _told_its_threads(function: Callable[..., Any], args: tuple[Any, ...], dask_worker: Any = None) -> Any:
    """The same in a worker of somebody's cluster, with as many threads as its tasks have; Dask gives the worker."""
    torch.set_num_threads(max(1, dask_worker.state.nthreads))
    return function(*args)


def _pass_on(outer: Future[Any], inner: Future[Any]) -> None:
    """Gives what a task came to to the future that the driver waits for."""
    if inner.cancelled():
        outer.set_exception(BrokenExecutor("the Dask scheduler has gone"))
        return
    error = inner.exception()
    if error is None:
        outer.set_result(inner.result())
    elif isinstance(error, import_module("distributed").KilledWorker):
        workers = error.allowed_failures + 1
        outer.set_exception(WorkerLostError(f"Dask gave up after {workers} of them", final=workers > 1))
    elif type(error).__name__ in ("CommClosedError", "FutureCancelledError", "CancelledError"):
        outer.set_exception(BrokenExecutor(f"the Dask scheduler has gone: {error}"))
    else:
        outer.set_exception(error)
