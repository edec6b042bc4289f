"""A Dask cluster on this machine, which lasts as long as its pool."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
from importlib import import_module
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from advbench.executors.fresh import FreshContext, begin_work
from advbench.executors.workers import Worker, WorkerPool, answered

__all__ = ["ClusterHere"]

_LOOKS_EVERY = 0.5
"""Seconds after which a process that has not answered yet is looked at again."""

_STARTS_IN = 300.0
"""Seconds in which a process has to tell its address."""


class ClusterHere(WorkerPool):
    """A scheduler in this process, and Dask's workers in processes of their own.

    Where one ends, its place is taken by another. Dask's own keepers of workers give up a place for good when the next
    process is long in coming, or dies at its first task before they have heard of it; and they do not tell what a
    process died of.

    Args:
        jobs: How many workers.
        gpus: Among how many GPUs they are dealt out, each of which sees its own alone; 0 changes nothing.
    """

    def __init__(self, jobs: int, gpus: int = 0) -> None:
        dask, distributed = import_module("dask"), import_module("distributed")
        settings = {
            "distributed.scheduler.allowed-failures": 0,  # the driver gives a task whose worker died to another
            "distributed.scheduler.worker-ttl": None,  # a step that lets no other thread run may take its time
        }
        # Any free port for what the scheduler serves besides: another cluster may have the usual one.
        options = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        scheduler = {"cls": distributed.Scheduler, "options": options}
        with dask.config.set(settings):
            self._cluster = distributed.SpecCluster(workers={}, scheduler=scheduler, silence_logs="CRITICAL")
        self._client = distributed.Client(self._cluster, set_as_default=False)
        self._folder = tempfile.TemporaryDirectory(prefix="advbench-dask-", ignore_cleanup_errors=True)
        super().__init__(jobs, gpus)

    def abandon(self) -> None:
        """Ends every worker at once, whatever it does, and the cluster."""
        super().abandon()
        self._leave()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the workers end once they have done what waits, and then the cluster."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        self._leave()

    def _worker(self, number: int, environment: dict[str, str]) -> Worker:
        return _WorkerOfDask(number, environment, self._client, self._folder.name)

    def _leave(self) -> None:
        with contextlib.suppress(Exception):  # it may be gone already
            self._client.close(timeout=5)
        with contextlib.suppress(Exception):
            self._cluster.close(timeout=10)
        self._folder.cleanup()


class _WorkerOfDask(Worker):
    """A worker that Dask gives its tasks.

    Args:
        number: Which of the pool's it is, from 0.
        environment: Environment variables of the process.
        client: Dask's.
        folder: Where it may leave files.
    """

    def __init__(self, number: int, environment: dict[str, str], client: Any, folder: str) -> None:
        super().__init__(number, environment)
        self._client = client
        self._folder = folder
        self._address: tuple[SpawnProcess, str] | None = None

    def _exchange(self, process: SpawnProcess, pipe: Connection, message: bytes) -> bytes | None:
        if self._address is None or self._address[0] is not process:
            address = _heard(process, pipe)
            if address is None:
                return None
            self._address = process, address
        timed_out = import_module("distributed").TimeoutError
        inner = self._client.submit(
            answered, message, workers=[self._address[1]], allow_other_workers=False, pure=False, retries=0
        )
        while process.is_alive():
            try:
                sent: bytes = inner.result(timeout=_LOOKS_EVERY)
            except timed_out:
                continue
            except Exception:  # the worker has left the scheduler, and so the task is lost, whatever the process does
                break
            return sent
        with contextlib.suppress(Exception):
            inner.cancel()
        return None

    def _process_of(self, pipe: Connection) -> SpawnProcess:
        address = self._client.scheduler.address
        return FreshContext().Process(target=_serve, args=(pipe, self._environment, address, self._folder))


def _heard(process: SpawnProcess, pipe: Connection) -> str | None:
    """The address that a process tells once it is a worker, or None where it does not come so far."""
    wait([pipe, process.sentinel], timeout=_STARTS_IN)
    try:
        return pipe.recv_bytes().decode() if pipe.poll() else None
    except (EOFError, OSError):
        return None


def _serve(pipe: Connection, environment: dict[str, str], scheduler: str, folder: str) -> None:
    """What a worker process does: it is a worker of Dask's until the pipe is closed."""
    begin_work(environment)
    threading.Thread(target=_leave_when_closed, args=(pipe,), daemon=True).start()
    asyncio.run(_be_worker(pipe, scheduler, folder))


async def _be_worker(pipe: Connection, scheduler: str, folder: str) -> None:
    distributed = import_module("distributed")
    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL}
    async with distributed.Worker(scheduler, local_directory=folder, **options) as worker:
        pipe.send_bytes(worker.address.encode())
        await worker.finished()


def _leave_when_closed(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    os._exit(0)
