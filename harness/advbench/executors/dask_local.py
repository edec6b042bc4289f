"""A Dask cluster on this machine that exists as long as its pool."""

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

from advbench.executors.spawn import CleanSpawnContext, start_worker
from advbench.executors.workers import ProcessPool, Worker, run_message

__all__ = ["LocalDaskPool"]

_POLL_SECONDS = 0.5
"""Seconds between checks whether the process of a task is alive."""

_START_SECONDS = 300.0
"""Seconds in which a process must report its address."""


class LocalDaskPool(ProcessPool):
    """A Dask scheduler in this process, and Dask workers in processes of their own.

    A worker that ends is replaced. Dask's nannies give a worker up if its next process starts slowly, or dies at its
    first task before they have registered it; and they do not report how a process died.

    Args:
        jobs: How many workers.
        gpus: How many GPUs the workers share, each seeing one of them; 0 changes nothing.
    """

    def __init__(self, jobs: int, gpus: int = 0) -> None:
        dask, distributed = import_module("dask"), import_module("distributed")
        settings = {
            "distributed.scheduler.allowed-failures": 0,  # the driver gives the task of a dead worker to another worker
            "distributed.scheduler.worker-ttl": None,  # a task may block all other threads for long
        }
        # Any free port for the dashboard: another cluster may use the default one.
        options = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
        scheduler = {"cls": distributed.Scheduler, "options": options}
        with dask.config.set(settings):
            self._cluster = distributed.SpecCluster(workers={}, scheduler=scheduler, silence_logs="CRITICAL")
        self._client = distributed.Client(self._cluster, set_as_default=False)
        self._folder = tempfile.TemporaryDirectory(prefix="advbench-dask-", ignore_cleanup_errors=True)
        super().__init__(jobs, gpus)

    def abandon(self) -> None:
        """Ends every worker at once, and the cluster."""
        super().abandon()
        self._close_cluster()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers when they have done all submitted tasks, and then the cluster."""
        super().shutdown(wait=wait, cancel_futures=cancel_futures)
        self._close_cluster()

    def _worker(self, number: int, environment: dict[str, str]) -> Worker:
        return _DaskWorker(number, environment, self._client, self._folder.name)

    def _close_cluster(self) -> None:
        with contextlib.suppress(Exception):  # it may be gone already
            self._client.close(timeout=5)
        with contextlib.suppress(Exception):
            self._cluster.close(timeout=10)
        self._folder.cleanup()


class _DaskWorker(Worker):
    """A worker that gets its tasks through Dask.

    Args:
        number: Its number in the pool, from 0.
        environment: Environment variables of the process.
        client: The client of Dask.
        folder: Where it may write files.
    """

    def __init__(self, number: int, environment: dict[str, str], client: Any, folder: str) -> None:
        super().__init__(number, environment)
        self._client = client
        self._folder = folder
        self._address: tuple[SpawnProcess, str] | None = None

    def _exchange(self, process: SpawnProcess, pipe: Connection, message: bytes) -> bytes | None:
        if self._address is None or self._address[0] is not process:
            address = _wait_for_address(process, pipe)
            if address is None:
                return None
            self._address = process, address
        timed_out = import_module("distributed").TimeoutError
        inner = self._client.submit(
            run_message, message, workers=[self._address[1]], allow_other_workers=False, pure=False, retries=0
        )
        while process.is_alive():
            try:
                answer: bytes = inner.result(timeout=_POLL_SECONDS)
            except timed_out:
                continue
            except Exception:  # the worker has left the scheduler, so that the task is lost
                break
            return answer
        with contextlib.suppress(Exception):
            inner.cancel()
        return None

    def _process_of(self, pipe: Connection) -> SpawnProcess:
        address = self._client.scheduler.address
        return CleanSpawnContext().Process(target=_serve, args=(pipe, self._environment, address, self._folder))


def _wait_for_address(process: SpawnProcess, pipe: Connection) -> str | None:
    """The address that a process reports when it is a worker; None if it ends before that."""
    wait([pipe, process.sentinel], timeout=_START_SECONDS)
    try:
        return pipe.recv_bytes().decode() if pipe.poll() else None
    except (EOFError, OSError):
        return None


def _serve(pipe: Connection, environment: dict[str, str], scheduler: str, folder: str) -> None:
    """Runs a Dask worker in this process until the pipe is closed."""
    start_worker(environment)
    threading.Thread(target=_exit_when_closed, args=(pipe,), daemon=True).start()
    asyncio.run(_run_worker(pipe, scheduler, folder))


async def _run_worker(pipe: Connection, scheduler: str, folder: str) -> None:
    distributed = import_module("distributed")
    options = {"nthreads": 1, "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL}
    async with distributed.Worker(scheduler, local_directory=folder, **options) as worker:
        pipe.send_bytes(worker.address.encode())
        await worker.finished()


def _exit_when_closed(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv_bytes()
    os._exit(0)
