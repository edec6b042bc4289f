"""Worker processes, each with a pipe of its own: the death of one is the loss of its task and of nothing else."""

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
from advbench.executors.fresh import FreshContext, begin_work, how_it_ended, visible_gpus

__all__ = ["Worker", "WorkerPool", "answered"]

_GRACE = 5.0
"""Seconds that a worker has to end by itself, once there is nothing left to do, and that one has to be gone once it
is killed."""


class Call(NamedTuple):
    """A task, and the future of its result."""

    future: Future[Any]
    message: bytes


class WorkerPool(FuturesExecutor):
    """As many processes as tasks may run at a time.

    Args:
        jobs: How many.
        gpus: Among how many GPUs they are dealt out, each of which sees its own alone; 0 changes nothing.
    """

    def __init__(self, jobs: int, gpus: int = 0) -> None:
        self._waiting: deque[Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._workers = [self._worker(number, visible_gpus(number, gpus)) for number in range(jobs)]
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"worker {worker.number}", daemon=True)
            for worker in self._workers
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a task in the next worker that is free."""
        call = _call(fn, args, kwargs)
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._waiting.append(call)
            self._changed.notify_all()
        return call.future

    def everywhere(self, fn: Callable[..., Any], /, *args: Any) -> dict[str, Any]:
        """Runs a task in every worker, and waits for all; of one that dies again and again, what it died of."""
        found: dict[str, Any] = {}
        left = self._workers
        for last in (False, False, True):
            calls = [(worker, _call(fn, args, {})) for worker in left]
            with self._changed:
                for worker, call in calls:
                    worker.own.append(call)
                self._changed.notify_all()
            left = []
            for worker, call in calls:
                error = call.future.exception()
                if isinstance(error, WorkerLostError) and not last:
                    left.append(worker)
                else:
                    found[f"worker {worker.number}"] = error or call.future.result()
        return found

    def abandon(self) -> None:
        """Ends every worker at once, whatever it does, and returns when they are gone."""
        self._close(cancel=True)
        for worker in self._workers:
            worker.kill()
        until = time.monotonic() + _GRACE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Lets the workers end once they have done what waits."""
        self._close(cancel=cancel_futures)
        if wait:
            for thread in self._threads:
                thread.join()

    def _worker(self, number: int, environment: dict[str, str]) -> Worker:
        """One of the workers, which needs no process yet."""
        return Worker(number, environment)

    def _close(self, *, cancel: bool) -> None:
        with self._changed:
            self._closed = True
            while cancel and self._waiting:
                self._waiting.pop().future.cancel()
            self._changed.notify_all()

    def _serve(self, worker: Worker) -> None:
        """Gives one worker its tasks, one after another; a new process takes the place of one that died."""
        while (call := self._next(worker)) is not None:
            if not call.future.set_running_or_notify_cancel():
                continue
            try:
                succeeded, result = worker.ask(call.message)
            except Exception as error:
                succeeded, result = False, error
            if succeeded:
                call.future.set_result(result)
            else:
                call.future.set_exception(result)
        worker.end()

    def _next(self, worker: Worker) -> Call | None:
        with self._changed:
            while not (worker.own or self._waiting or self._closed):
                self._changed.wait()
            return worker.own.popleft() if worker.own else self._waiting.popleft() if self._waiting else None


class Worker:
    """One process at a time, which is started when it is first asked.

    Args:
        number: Which of the pool's it is, from 0.
        environment: Environment variables of the process.

    Attributes:
        own: Tasks for it alone.
    """

    def __init__(self, number: int, environment: dict[str, str]) -> None:
        self.number = number
        self.own: deque[Call] = deque()
        self._environment = environment
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._given_up = False

    def ask(self, message: bytes) -> tuple[bool, Any]:
        """Whether a task succeeded, and what it returned or raised.

        Raises:
            WorkerLostError: The process died.
        """
        process, pipe = self._started()
        sent = self._exchange(process, pipe, message)
        if sent is None:
            self._discard(process, pipe)
            raise how_it_ended(process.exitcode)
        succeeded, result, tainted = pickle.loads(sent)  # from our own process
        if tainted:  # another takes its place at the next task
            self._discard(process, pipe)
        return succeeded, result

    def kill(self) -> None:
        """Ends the process at once, whatever it does, and lets no other take its place."""
        self._given_up = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """Ends the process, which has nothing left to do."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(_GRACE)
            self._process.kill()
            self._process.join()
            self._process = self._pipe = None

    def _discard(self, process: SpawnProcess, pipe: Connection) -> None:
        """Ends a process that is dead, or must not be used again."""
        process.kill()
        process.join()
        pipe.close()
        self._process = self._pipe = None

    def _exchange(self, process: SpawnProcess, pipe: Connection, message: bytes) -> bytes | None:
        """What a process answers, or None where it died."""
        try:
            pipe.send_bytes(message)
            wait([pipe, process.sentinel])
            if pipe.poll():
                return pipe.recv_bytes()
        except (EOFError, OSError):
            pass
        return None

    def _process_of(self, pipe: Connection) -> SpawnProcess:
        """A process that is not started yet; it ends when the pipe is closed."""
        return FreshContext().Process(target=_work, args=(pipe, self._environment))

    def _started(self) -> tuple[SpawnProcess, Connection]:
        if self._process is not None and not self._process.is_alive():  # it died while it had nothing to do
            self.end()
        if self._process is None or self._pipe is None:
            ours, theirs = FreshContext().Pipe()
            process = self._process_of(theirs)
            process.start()
            self._process, self._pipe = process, ours
            theirs.close()
            if self._given_up:  # while it started
                process.kill()
        return self._process, self._pipe


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return Call(Future(), pickle.dumps((fn, args, kwargs)))


def _work(pipe: Connection, environment: dict[str, str]) -> None:
    """What a worker process does: tasks, one after another, until the pipe is closed."""
    begin_work(environment)
    while True:
        try:
            message = pipe.recv_bytes()
        except (EOFError, OSError):
            return
        pipe.send_bytes(answered(message))


def answered(message: bytes) -> bytes:
    """Runs a task in a worker; whether it succeeded, what it came to, and whether the process is tainted, as bytes."""
    answer: tuple[bool, Any]
    try:
        fn, args, kwargs = pickle.loads(message)
        answer = True, fn(*args, **kwargs)
    except BaseException as error:
        answer = False, error
    tainted = bool(process_taint())
    try:
        sent = pickle.dumps((*answer, tainted))
        pickle.loads(sent)  # some exceptions can be written and not read
    except Exception as error:
        sent = pickle.dumps((False, RuntimeError(f"{answer[1]!r} cannot be sent to the driver: {error!r}"), tainted))
    return sent
