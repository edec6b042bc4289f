"""A pool of worker processes with a pipe for each, so that a worker that dies loses only its current task."""

from __future__ import annotations

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import Future
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from advbench.api import WorkerLostError, process_taint
from advbench.executors.spawn import CleanSpawnContext, start_worker, visible_gpus, worker_lost_error
from advbench.process.gc_tuning import gc_paused

__all__ = ["ProcessPool", "Worker", "run_message"]

_EXIT_SECONDS = 5.0
"""Seconds to wait for a worker to exit, before and after it is killed."""


class Call(NamedTuple):
    """A task, and the future of its result."""

    future: Future[Any]
    message: bytes


class ProcessPool(FuturesExecutor):
    """A pool of worker processes, which replaces those that die.

    Args:
        jobs: How many workers.
        gpus: How many GPUs the workers share, each seeing one of them; 0 changes nothing.
    """

    def __init__(self, jobs: int, gpus: int = 0) -> None:
        self._waiting: deque[Call] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._workers = [self._worker(number, visible_gpus(number, gpus)) for number in range(jobs)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"worker {worker.number}", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a task in the next free worker."""
        call = _call(fn, args, kwargs)
        with self._condition:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._waiting.append(call)
            self._condition.notify_all()
        return call.future

    def everywhere(self, fn: Callable[..., Any], /, *args: Any) -> dict[str, Any]:
        """Runs a function in every worker, and waits for all; the result of one that dies three times is its error."""
        results: dict[str, Any] = {}
        pending = self._workers
        for last in (False, False, True):
            calls = [(worker, _call(fn, args, {})) for worker in pending]
            with self._condition:
                for worker, call in calls:
                    worker.own_calls.append(call)
                self._condition.notify_all()
            pending = []
            for worker, call in calls:
                error = call.future.exception()
                if isinstance(error, WorkerLostError) and not last:
                    pending.append(worker)
                else:
                    results[f"worker {worker.number}"] = error or call.future.result()
        return results

    def abandon(self) -> None:
        """Kills every worker at once, and returns when they have ended."""
        self._close(cancel=True)
        for worker in self._workers:
            worker.kill()
        deadline = time.monotonic() + _EXIT_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers when they have done all submitted tasks."""
        self._close(cancel=cancel_futures)
        if wait:
            for thread in self._threads:
                thread.join()

    def _worker(self, number: int, environment: dict[str, str]) -> Worker:
        """Makes one of the workers; its process starts with its first task."""
        return Worker(number, environment)

    def _close(self, *, cancel: bool) -> None:
        with self._condition:
            self._closed = True
            while cancel and self._waiting:
                self._waiting.pop().future.cancel()
            self._condition.notify_all()

    def _serve(self, worker: Worker) -> None:
        """Gives one worker its tasks, one after another; a process that died is replaced."""
        while (call := self._next(worker)) is not None:
            if not call.future.set_running_or_notify_cancel():
                continue
            try:
                succeeded, result = worker.run(call.message)
            except Exception as error:
                succeeded, result = False, error
            if succeeded:
                call.future.set_result(result)
            else:
                call.future.set_exception(result)
        worker.end()

    def _next(self, worker: Worker) -> Call | None:
        with self._condition:
            while not (worker.own_calls or self._waiting or self._closed):
                self._condition.wait()
            return (
                worker.own_calls.popleft() if worker.own_calls else self._waiting.popleft() if self._waiting else None
            )


class Worker:
    """One process at a time, which starts with the first task.

    Args:
        number: Its number in the pool, from 0.
        environment: Environment variables of the process.

    Attributes:
        own_calls: Tasks for this worker only.
    """

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        self.number = number
        self.own_calls: deque[Call] = deque()
        self._environment = environment
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._killed = False

    def run(self, message: bytes) -> tuple[bool, Any]:
        """Runs a task; returns whether it succeeded, and its result or exception.

        Raises:
            WorkerLostError: The process died.
        """
        process, pipe = self._started()
        answer = self._exchange(process, pipe, message)
        if answer is None:
            self._discard(process, pipe)
            raise worker_lost_error(process.exitcode)
        succeeded, result, tainted = pickle.loads(answer)  # from our own process
        if tainted:  # another process replaces it at the next task
            self._discard(process, pipe)
        return succeeded, result

    def kill(self) -> None:
        """Kills the process at once, and starts no other."""
        self._killed = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Ends the idle process."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(_EXIT_SECONDS)
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None

    def _discard(self, process: SpawnProcess, pipe: Connection) -> None:
        """Kills a process that is dead or must not be used again."""
        process.kill()
        process.join()
        pipe.close()
        self._process = self._pipe = None

    def _exchange(self, process: SpawnProcess, pipe: Connection, message: bytes) -> bytes | None:
        """Sends a message; returns the answer, or None if the process died."""
        try:
            pipe.send_bytes(message)
            wait([pipe, process.sentinel])
            if pipe.poll():
                return pipe.recv_bytes()
        except (EOFError, OSError):
            pass
        return None

    def _process_of(self, pipe: Connection) -> SpawnProcess:
        """Makes a process, without starting it; it ends when the pipe is closed."""
        return CleanSpawnContext().Process(target=_run_tasks, args=(pipe, self._environment))

    def _started(self) -> tuple[SpawnProcess, Connection]:
        if self._process is not None and not self._process.is_alive():  # it died while idle
            self.end()
        if self._process is None or self._pipe is None:
            ours, theirs = CleanSpawnContext().Pipe()
            process = self._process_of(theirs)
            process.start()
            self._process, self._pipe = process, ours
            theirs.close()
            if self._killed:  # while the process was starting
                process.kill()
        return self._process, self._pipe


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return Call(Future(), pickle.dumps((fn, args, kwargs)))


def _run_tasks(pipe: Connection, environment: dict[str, str]) -> None:
    """Runs tasks one after another in this worker process, until the pipe is closed."""
    start_worker(environment)
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(run_message(message))


def run_message(message: bytes) -> bytes:
    """Runs a pickled task; returns whether it succeeded, its result, and whether the process is tainted, as bytes."""
    answer: tuple[bool, Any]
    try:
        with gc_paused():  # a worker imports torch to read its first task
            fn, args, kwargs = pickle.loads(message)
        answer = True, fn(*args, **kwargs)
    except BaseException as error:
        answer = False, error
    tainted = bool(process_taint())
    try:
        content = pickle.dumps((*answer, tainted))
        pickle.loads(content)  # some exceptions can be pickled but not unpickled
    except Exception as error:
        content = pickle.dumps((False, RuntimeError(f"{answer[1]!r} cannot be sent to the driver: {error!r}"), tainted))
    return content
